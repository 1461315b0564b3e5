/* Counts over a unix socket of somebody else's: unix_socket dgram|stream PATH. It ends when nobody takes what it sends. */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, argv[2], sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, strcmp(argv[1], "dgram") ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        return 3;
    for (int i = 0;; i++) {
        char line[32];
        int size = snprintf(line, sizeof line, "count %d\n", i);
        if (send(fd, line, size, MSG_NOSIGNAL) != size)
            return 4;
        usleep(20000);
    }
}
