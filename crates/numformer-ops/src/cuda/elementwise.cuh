// One thread per entry.

// x <- x + y
extern "C" __global__ void KERNEL(add)(T* x, const T* y, unsigned n) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) store(&x[at], load(x[at]) + load(y[at]));
}
REGISTER(KERNEL(add))

// Copies row i of x, [n, d], to row `*position` of table i of y, [n, rows_of_table, d].
extern "C" __global__ void KERNEL(append)(T* y, const T* x, const unsigned* position, unsigned n, unsigned d,
                                          unsigned rows_of_table) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  // Read once, so that the value that is checked is the value that is used.
  const unsigned row = *position;
  if (at >= n * d || row >= rows_of_table) return;
  const unsigned table = at / d, column = at % d;
  y[(static_cast<size_t>(table) * rows_of_table + row) * d + column] = x[at];
}
REGISTER(KERNEL(append))
