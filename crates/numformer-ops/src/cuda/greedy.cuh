// Chooses the next token of each sequence, on the device that holds the scores. Each block handles one sequence.

// next[b] <- the id of the largest of logits[b] [v], the smallest id among equals, or `padding` once the sequence has
// ended. The id is also written to column `*position` of answers [batch, width]. A sequence ends with `delimiter`;
// `ended` [batch] records this, or 2 if
// its scores are not finite.
extern "C" __global__ void KERNEL(choose)(unsigned* next, unsigned* answers, unsigned* ended, const T* logits,
                                          const unsigned* position, unsigned v, unsigned width, unsigned delimiter,
                                          unsigned padding) {
  __shared__ float values[WARP];
  __shared__ unsigned places[WARP];
  const T* row = logits + static_cast<size_t>(blockIdx.x) * v;
  float best = -INFINITY, wrong = 0;
  unsigned place = v;
  for (unsigned c = threadIdx.x; c < v; c += blockDim.x) {
    const float x = load(row[c]);
    if (x - x != 0) wrong = 1;
    if (place == v || x > best) {
      best = x;
      place = c;
    }
  }
  for (unsigned lanes = WARP / 2; lanes > 0; lanes /= 2) {
    const float other = __shfl_xor_sync(ALL, best, lanes);
    const unsigned other_place = __shfl_xor_sync(ALL, place, lanes);
    if (other > best || (other == best && other_place < place)) {
      best = other;
      place = other_place;
    }
  }
  if (threadIdx.x % WARP == 0) {
    values[threadIdx.x / WARP] = best;
    places[threadIdx.x / WARP] = place;
  }
  // With barriers for all threads.
  wrong = block_max(wrong);
  if (threadIdx.x > 0) return;
  for (unsigned warp = 1; warp < blockDim.x / WARP; ++warp) {
    if (values[warp] > best || (values[warp] == best && places[warp] < place)) {
      best = values[warp];
      place = places[warp];
    }
  }
  const unsigned id = ended[blockIdx.x] ? padding : place;
  if (id == delimiter) ended[blockIdx.x] = 1;
  if (wrong > 0 && !ended[blockIdx.x]) ended[blockIdx.x] = 2;
  next[blockIdx.x] = id;
  // Read once, so that the value that is checked is the value that is used.
  const unsigned column = *position;
  if (column < width) answers[static_cast<size_t>(blockIdx.x) * width + column] = id;
}
REGISTER(KERNEL(choose))
