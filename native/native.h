/* The one header of native/: what every source file here needs, and the declarations Python sees. */

#ifndef OCISHIM_NATIVE_H
#define OCISHIM_NATIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "native.cdef.h"

#endif
