// Attention for heads of up to 32, 64 and 128 entries. `ROWS` is the number of rows that a warp takes at once. It is
// smaller for wider heads, so that two tiles and the rows of four warps fit into the shared memory that every block may
// have.
#define WIDTH 32
#define ROWS 4
#include "attention.cuh"
#undef WIDTH
#undef ROWS

#define WIDTH 64
#define ROWS 4
#include "attention.cuh"
#undef WIDTH
#undef ROWS

#define WIDTH 128
#define ROWS 2
#include "attention.cuh"
#undef WIDTH
#undef ROWS
