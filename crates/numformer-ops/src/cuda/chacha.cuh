// The stream cipher ChaCha with 8 rounds, as a source of random words that can be reached in any order: Bernstein
// (2008), *ChaCha, a variant of Salsa20*. RFC 8439, section 2, gives the quarter round and the block function, with 20
// rounds. Here, as in Bernstein's paper, the block counter has 64 bits; the other 64 bits, the number of the stream,
// are zero.

__device__ inline unsigned rotate_left(unsigned x, unsigned bits) { return (x << bits) | (x >> (32 - bits)); }

__device__ inline void quarter_round(unsigned& a, unsigned& b, unsigned& c, unsigned& d) {
  a += b, d = rotate_left(d ^ a, 16);
  c += d, b = rotate_left(b ^ c, 12);
  a += b, d = rotate_left(d ^ a, 8);
  c += d, b = rotate_left(b ^ c, 7);
}

// words <- block `counter` of the stream: the words from 16 counter on.
__device__ inline void chacha8(unsigned (&words)[16], const unsigned (&key)[8], unsigned long long counter) {
  // "expand 32-byte k"
  const unsigned begin[16] = {0x61707865u,
                              0x3320646eu,
                              0x79622d32u,
                              0x6b206574u,
                              key[0],
                              key[1],
                              key[2],
                              key[3],
                              key[4],
                              key[5],
                              key[6],
                              key[7],
                              static_cast<unsigned>(counter),
                              static_cast<unsigned>(counter >> 32),
                              0,
                              0};
#pragma unroll
  for (unsigned i = 0; i < 16; ++i) words[i] = begin[i];
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    quarter_round(words[0], words[4], words[8], words[12]);
    quarter_round(words[1], words[5], words[9], words[13]);
    quarter_round(words[2], words[6], words[10], words[14]);
    quarter_round(words[3], words[7], words[11], words[15]);
    quarter_round(words[0], words[5], words[10], words[15]);
    quarter_round(words[1], words[6], words[11], words[12]);
    quarter_round(words[2], words[7], words[8], words[13]);
    quarter_round(words[3], words[4], words[9], words[14]);
  }
#pragma unroll
  for (unsigned i = 0; i < 16; ++i) words[i] += begin[i];
}
