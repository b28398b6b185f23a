#include "tests/support/test.h"
#include <string.h>
