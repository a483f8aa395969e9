// Dropout with the masks of the host, which are functions of seed, step and place.

// out <- x times a mask, both [batch, width, d]; they may be the same. `numbers` holds the seed and the step, each as
// two words with the low one first, and t. The mask is that of [batch, t, d]: its entries take the words of a stream in
// order, and are 0 where a word is below `dropped_below`, else `kept`. Rows from t on are copied. A t above the width
// counts as the width.
//
// A warp handles 512 entries. Each lane makes the 16 words that one block of the stream has, and the lanes then share
// them, so that they read and write adjacent entries.
extern "C" __global__ void KERNEL(dropout)(T* out, const T* x, const unsigned* numbers, unsigned long long place,
                                           unsigned dropped_below, float kept, unsigned batch, unsigned width,
                                           unsigned d) {
  // Read once, so that the value that is checked is the value that is used.
  const unsigned t = min(numbers[4], width);
  // The order of the entries is that of the stream, and then come the entries beyond t. All sizes are below 2^31.
  const unsigned masked = batch * t * d, n = batch * width * d;
  const unsigned lane = threadIdx.x % WARP, thread = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned dropped = 0;
  if (16 * thread < masked) {
    // The last part is the FNV-1a hash of "dropout".
    const unsigned key[8] = {numbers[0], numbers[1],
                             numbers[2], numbers[3],
                             static_cast<unsigned>(place), static_cast<unsigned>(place >> 32),
                             0x0c02b510u, 0xa13b29c6u};
    unsigned words[16];
    chacha8(words, key, thread);
#pragma unroll
    for (unsigned i = 0; i < 16; ++i) dropped |= static_cast<unsigned>(words[i] < dropped_below) << i;
  }
  const unsigned of_example = t * d, beyond = (width - t) * d;
  for (unsigned i = 0; i < 16; ++i) {
    // All lanes take part in the shuffle, those without an entry too.
    const unsigned bits = __shfl_sync(ALL, dropped, 2 * i + lane / 16);
    const unsigned nth = 16 * (thread - lane) + WARP * i + lane;
    if (nth < masked) {
      const unsigned at = nth + nth / of_example * beyond;
      store(&out[at], load(x[at]) * ((bits >> lane % 16) & 1 ? 0.0f : kept));
    } else if (nth < n) {
      const unsigned at = nth - masked + ((nth - masked) / beyond + 1) * of_example;
      out[at] = x[at];
    }
  }
}
REGISTER(KERNEL(dropout))
