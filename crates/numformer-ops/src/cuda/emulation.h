// Runs the kernels on the host, one block after another, so that their logic can be tested without a device. Included
// before the kernels, in place of CUDA.
//
// The threads of a block are fibers of one thread, made once and used for every block. A fiber runs until it waits for
// its warp in a shuffle, or for its block at a barrier. It continues when all remaining fibers of the warp, or the
// block, wait for the same thing. If that can never happen, the program ends with a message. Shared memory is static,
// because only one block runs at a time. Memory of the device is memory of the host, so the usual tools find accesses
// out of bounds.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

struct Index {
  unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

enum class Waits { No, ForWarp, ForBlock, Ended };

// The first switch to a fiber uses its context. Later switches use jumps, which need no system call.
struct Fiber {
  ucontext_t context;
  jmp_buf place;
  std::vector<char> stack = std::vector<char>(128 * 1024);
  bool has_begun = false;
  Waits waits = Waits::Ended;
  Index index;
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static unsigned current;
static std::function<void()> body;
// The values that the threads give in a shuffle.
static std::vector<double> given;

// Returns to the scheduler; returns to the caller when the scheduler resumes the fiber.
inline void wait(Waits what) {
  fibers[current].waits = what;
  if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
}

inline void run_bodies() {
  while (true) {
    body();
    wait(Waits::Ended);
  }
}

// Runs a fiber until it waits.
inline void run(unsigned number) {
  current = number;
  Fiber& fiber = fibers[number];
  threadIdx = fiber.index;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.has_begun) _longjmp(fiber.place, 1);
  fiber.has_begun = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  makecontext(&fiber.context, run_bodies, 0);
  setcontext(&fiber.context);
}

// If all remaining fibers in [begin, end) wait for `what`, releases them. Returns whether there were any.
inline bool release(unsigned begin, unsigned end, Waits what) {
  bool any = false;
  for (unsigned i = begin; i < end; ++i) {
    if (fibers[i].waits == Waits::Ended) continue;
    if (fibers[i].waits != what) return false;
    any = true;
  }
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i].waits == what) fibers[i].waits = Waits::No;
  return any;
}

inline void run_block(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) {
    fibers[i].waits = Waits::No;
    fibers[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
  }
  while (true) {
    bool ran = false, left = false;
    for (unsigned i = 0; i < threads; ++i) {
      if (fibers[i].waits == Waits::No) {
        run(i);
        ran = true;
      }
      left = left || fibers[i].waits != Waits::Ended;
    }
    if (!left) return;
    for (unsigned i = 0; i < threads; i += 32) ran = release(i, std::min(i + 32, threads), Waits::ForWarp) || ran;
    ran = release(0, threads, Waits::ForBlock) || ran;
    if (!ran) {
      std::fprintf(stderr, "the threads of a block wait for different things\n");
      std::abort();
    }
  }
}

using Kernel = std::function<void(void**)>;

inline std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(arguments[I])...);
}

struct Registered {
  template <class... A>
  Registered(const char* name, void (*kernel)(A...)) {
    kernels()[name] = [kernel](void** arguments) { call(kernel, arguments, std::index_sequence_for<A...>()); };
  }
};

}  // namespace emulation

#define REGISTER_(kernel) static emulation::Registered registered_##kernel(#kernel, &kernel);
#define REGISTER(kernel) REGISTER_(kernel)

inline void __syncthreads() { emulation::wait(emulation::Waits::ForBlock); }

template <class X>
X __shfl_sync(unsigned, X x, unsigned lane) {
  using namespace emulation;
  const unsigned own = current, warp = own / 32 * 32;
  std::memcpy(&given[own], &x, sizeof x);
  wait(Waits::ForWarp);
  if (warp + lane >= blockDim.x * blockDim.y * blockDim.z || fibers[warp + lane].waits == Waits::Ended) {
    std::fprintf(stderr, "a lane reads from a lane that does not exist\n");
    std::abort();
  }
  X other;
  std::memcpy(&other, &given[warp + lane], sizeof other);
  wait(Waits::ForWarp);
  return other;
}

template <class X>
X __shfl_xor_sync(unsigned mask, X x, unsigned lanes) {
  return __shfl_sync(mask, x, (emulation::current % 32) ^ lanes);
}

inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

// Runs a kernel; returns 0 if a kernel with this name exists. Arguments are pointers to values of the kernel's types.
extern "C" int emulate(const char* name, const unsigned* grid, const unsigned* block, void** arguments) {
  const auto found = emulation::kernels().find(name);
  if (found == emulation::kernels().end()) return 1;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  emulation::body = [&] { found->second(arguments); };
  // The maximum number of threads in a block. Existing fibers stay in place.
  emulation::fibers.resize(1024);
  emulation::given.resize(1024);
  for (unsigned z = 0; z < grid[2]; ++z) {
    for (unsigned y = 0; y < grid[1]; ++y) {
      for (unsigned x = 0; x < grid[0]; ++x) {
        blockIdx = {x, y, z};
        emulation::run_block(block[0] * block[1] * block[2]);
      }
    }
  }
  return 0;
}
