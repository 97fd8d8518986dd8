// Convolutions on CPU that are several times as fast as XLA's: 3x3 ones by Winograd's minimal filtering F(4x4, 3x3), and
// those of any size with one output map (the spatial attention's 7x7) as dot products over the channels.
//
// A direct convolution multiplies each output pixel with 9 kernel taps for every pair of channels. Winograd's algorithm
// (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv:1509.09308) computes a
// tile of 4x4 output pixels from 6x6 input pixels with 36 multiplications instead of 144:
//
//     Y = A^T [ (G g G^T) * (B^T d B) ] A        g: 3x3 kernel, d: 6x6 input tile, *: element by element.
//
// With channels, each of the 36 products becomes a matrix product over the input channels, of all tiles at once:
// M[q] = V[q] U[q] with V[q] of tiles x C and U[q] of C x D. These are what the time goes into; B and A need additions
// and a few multiplications by small constants. A dilation r makes tiles of pixels r apart, of which there are r * r
// interleaved sets; nothing else changes.
//
// Rounding: the constants grow the error to a few units in the last place of the largest term (relative 1e-6, measured
// in tests/native). Where a tile's result is not finite it is computed again tap by tap, so that Inf and NaN, and sums
// that only overflow between the transforms, are what a direct convolution gives.
//
// One source serves all processors: the kernels are templates over the number W of floats in a vector register, written
// with the vector extensions of GCC and Clang, and are inlined into one entry point for each instruction set.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define INLINE inline __attribute__((always_inline))

namespace rpfnet {

enum Activation : int64_t { kNone = 0, kRelu = 1 };

// One convolution: y[b, h, w, d] = activation(bias[d] + sum x[b, h + (i - 1) r, w + (j - 1) r, c] kernel[i, j, c, d]),
// zero outside the image; without Winograd k x k taps, r = 1, D = 1. Arrays are dense, float32, channels last, kernels (k, k, C, D).
struct Problem {
  const float *x, *kernel, *bias;
  float* y;
  long batch, height, width, channels, features, dilation;
  Activation activation;

  // Tiles of one image in either direction: 4 output pixels each, for each of the r interleaved sets.
  long tiles_down() const { return (height + 4 * dilation - 1) / (4 * dilation) * dilation; }
  long tiles_across() const { return (width + 4 * dilation - 1) / (4 * dilation) * dilation; }
  long tiles() const { return batch * tiles_down() * tiles_across(); }
};

// The first output pixel of a tile.
struct Place {
  long image, row, column;
  Place(const Problem& p, long tile) {
    const long across = p.tiles_across(), down = p.tiles_down(), r = p.dilation;
    image = tile / (down * across);
    const long ty = tile / across % down, tx = tile % across;
    row = ty / r * 4 * r + ty % r;
    column = tx / r * 4 * r + tx % r;
  }
};

template <int W>
struct Vector {
  typedef float type __attribute__((vector_size(4 * W)));
};
template <int W>
using Vec = typename Vector<W>::type;

// Loads or stores the first `count` floats of a vector; the rest is zero.
template <int W>
INLINE Vec<W> load(const float* from, long count = W) {
  Vec<W> v = {};
  if (count == W) std::memcpy(&v, from, sizeof v);
  else std::memcpy(&v, from, count * sizeof(float));
  return v;
}

template <int W>
INLINE void store(float* to, Vec<W> v, long count = W) {
  if (count == W) std::memcpy(to, &v, sizeof v);
  else std::memcpy(to, &v, count * sizeof(float));
}

// B^T d: six values of a row or column of an input tile.
template <class V>
INLINE void transform_input(const V d[6], V out[6]) {
  const V even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
  const V outer = d[4] - d[2], inner = 2 * (d[3] - d[1]);
  out[0] = 4 * d[0] - 5 * d[2] + d[4];
  out[1] = even + odd;
  out[2] = even - odd;
  out[3] = outer + inner;
  out[4] = outer - inner;
  out[5] = 4 * d[1] - 5 * d[3] + d[5];
}

// A^T m: four values of a row or column of an output tile.
template <class V>
INLINE void transform_output(const V m[6], V out[4]) {
  const V near_sum = m[1] + m[2], near_difference = m[1] - m[2];
  const V far_sum = m[3] + m[4], far_difference = m[3] - m[4];
  out[0] = m[0] + near_sum + far_sum;
  out[1] = near_difference + 2 * far_difference;
  out[2] = near_sum + 4 * far_sum;
  out[3] = near_difference + 8 * far_difference + m[5];
}

// U[36][C][stride] = G g G^T for every pair of channels; columns from D to the stride are zero.
inline void transform_kernel(const Problem& p, long stride, float* u) {
  static const float g[6][3] = {{1 / 4.f, 0, 0},           {-1 / 6.f, -1 / 6.f, -1 / 6.f}, {-1 / 6.f, 1 / 6.f, -1 / 6.f},
                                {1 / 24.f, 1 / 12.f, 1 / 6.f}, {1 / 24.f, -1 / 12.f, 1 / 6.f}, {0, 0, 1}};
  const long pairs = p.channels * p.features;
  std::fill(u, u + 36 * p.channels * stride, 0.f);
  for (long c = 0; c < p.channels; c++)
    for (long d = 0; d < p.features; d++) {
      const float* k = p.kernel + c * p.features + d;
      float rows[6][3];
      for (int i = 0; i < 6; i++)
        for (int j = 0; j < 3; j++)
          rows[i][j] = g[i][0] * k[j * pairs] + g[i][1] * k[(3 + j) * pairs] + g[i][2] * k[(6 + j) * pairs];
      for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
          u[((i * 6 + j) * p.channels + c) * stride + d] = rows[i][0] * g[j][0] + rows[i][1] * g[j][1] + rows[i][2] * g[j][2];
    }
}

// R rows of one product: m[i][0 .. N * W) = sum over c of v[i][c] * u[c][0 .. N * W), all sums in registers.
template <int W, int R, int N>
INLINE void multiply(const float* v, long v_stride, const float* u, long u_stride, long channels, float* m) {
  Vec<W> sums[R][N] = {};
  for (long c = 0; c < channels; c++) {
    Vec<W> row[N];
    for (int n = 0; n < N; n++) row[n] = load<W>(u + c * u_stride + n * W);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++)
#pragma GCC unroll 2
      for (int n = 0; n < N; n++) sums[i][n] += v[i * v_stride + c] * row[n];
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; i++)
    for (int n = 0; n < N; n++) store<W>(m + i * u_stride + n * W, sums[i][n]);
}

// One output tile tap by tap, for the rare one whose transforms are not finite.
inline void convolve_directly(const Problem& p, const Place& at) {
  const long r = p.dilation;
  for (long h = at.row; h < std::min(at.row + 4 * r, p.height); h += r)
    for (long w = at.column; w < std::min(at.column + 4 * r, p.width); w += r)
      for (long d = 0; d < p.features; d++) {
        float sum = 0;
        for (int tap = 0; tap < 9; tap++) {
          const long y = h + (tap / 3 - 1) * r, x = w + (tap % 3 - 1) * r;
          if (y < 0 || y >= p.height || x < 0 || x >= p.width) continue;
          const float* pixel = p.x + ((at.image * p.height + y) * p.width + x) * p.channels;
          for (long c = 0; c < p.channels; c++) sum += pixel[c] * p.kernel[(tap * p.channels + c) * p.features + d];
        }
        sum += p.bias[d];
        // NaN stays NaN, as in XLA's maximum.
        if (p.activation == kRelu && sum < 0) sum = 0;
        p.y[((at.image * p.height + h) * p.width + w) * p.features + d] = sum;
      }
}

constexpr int kTiles = 24;  // At once: with 32 channels V and M take 108 KiB each and stay in the second-level cache.

// Memory that one thread works in.
struct Scratch {
  std::vector<float> memory;
  float *v, *m;
  Scratch(long v_stride, long m_stride) : memory(36 * kTiles * (v_stride + m_stride) + 16) {
    v = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
    m = v + 36 * kTiles * v_stride;
  }
};

// A number of channels, rounded up to whole vectors of so many floats.
INLINE long padded(long channels, long width) { return (channels + width - 1) / width * width; }

// V of one tile: B^T d B for each block of W channels.
template <int W>
INLINE void gather(const Problem& p, const Place& at, long stride, float* v) {
  const long r = p.dilation, top = at.row - r, left = at.column - r;
  const bool inside = top >= 0 && left >= 0 && top + 5 * r < p.height && left + 5 * r < p.width;
  const float* image = p.x + at.image * p.height * p.width * p.channels;
  for (long block = 0; block < p.channels; block += W) {
    const long count = std::min<long>(W, p.channels - block);
    Vec<W> half[6][6];
    for (int j = 0; j < 6; j++) {
      Vec<W> d[6], column[6];
      const long x = left + j * r;
      for (int i = 0; i < 6; i++) {
        const long y = top + i * r;
        const bool there = inside || (y >= 0 && y < p.height && x >= 0 && x < p.width);
        d[i] = there ? load<W>(image + (y * p.width + x) * p.channels + block, count) : Vec<W>{};
      }
      transform_input(d, column);
      for (int i = 0; i < 6; i++) half[i][j] = column[i];
    }
    for (int i = 0; i < 6; i++) {
      Vec<W> row[6];
      transform_input(half[i], row);
      for (int j = 0; j < 6; j++) store<W>(v + (i * 6 + j) * kTiles * stride + block, row[j]);
    }
  }
}

// Y of one tile: A^T M A, bias and activation; false where a value is not finite.
template <int W>
INLINE bool scatter(const Problem& p, const Place& at, long stride, const float* m) {
  const long r = p.dilation;
  float* image = p.y + at.image * p.height * p.width * p.features;
  Vec<W> check = {};
  for (long block = 0; block < p.features; block += W) {
    const long count = std::min<long>(W, p.features - block);
    const Vec<W> bias = load<W>(p.bias + block, count);
    Vec<W> half[4][6];
    for (int j = 0; j < 6; j++) {
      Vec<W> column[6], out[4];
      for (int i = 0; i < 6; i++) column[i] = load<W>(m + (i * 6 + j) * kTiles * stride + block);
      transform_output(column, out);
      for (int i = 0; i < 4; i++) half[i][j] = out[i];
    }
    for (int i = 0; i < 4; i++) {
      const long h = at.row + i * r;
      if (h >= p.height) break;
      Vec<W> row[4];
      transform_output(half[i], row);
      for (int j = 0; j < 4; j++) {
        const long w = at.column + j * r;
        if (w >= p.width) break;
        Vec<W> value = row[j] + bias;
        check += value - value;  // Zero, or NaN where a value is not finite.
        if (p.activation == kRelu) value = value < 0 ? Vec<W>{} : value;
        store<W>(image + (h * p.width + w) * p.features + block, value, count);
      }
    }
  }
  float sum = 0;
  for (int i = 0; i < W; i++) sum += check[i];
  return sum == 0;
}

// The tiles from `first` to `last`, some of them at a time. R rows of tiles and two vectors of features fill the registers.
template <int W, int R>
INLINE void convolve_tiles(const Problem& p, const float* u, long first, long last) {
  static_assert(kTiles % R == 0, "whole products only");
  const long v_stride = padded(p.channels, W), m_stride = padded(p.features, W);
  Scratch scratch(v_stride, m_stride);
  for (long start = first; start < last; start += kTiles) {
    const long count = std::min<long>(kTiles, last - start);
    for (long t = 0; t < count; t++) gather<W>(p, Place(p, start + t), v_stride, scratch.v + t * v_stride);
    for (int q = 0; q < 36; q++)
      for (long t = 0; t < count; t += R) {
        const float* v = scratch.v + (q * kTiles + t) * v_stride;
        const float* uq = u + q * p.channels * m_stride;
        float* m = scratch.m + (q * kTiles + t) * m_stride;
        long d = 0;
        for (; d + 2 * W <= m_stride; d += 2 * W) multiply<W, R, 2>(v, v_stride, uq + d, m_stride, p.channels, m + d);
        if (d < m_stride) multiply<W, R, 1>(v, v_stride, uq + d, m_stride, p.channels, m + d);
      }
    for (long t = 0; t < count; t++) {
      const Place at(p, start + t);
      if (at.row >= p.height || at.column >= p.width) continue;
      if (!scatter<W>(p, at, m_stride, scratch.m + t * m_stride)) convolve_directly(p, at);
    }
  }
}

// R neighbouring pixels of a row of a size x size convolution to one map: each tap's channels are loaded once for all of
// them and summed up at the end. With `Edge` false no column is outside the image and the channels fill whole vectors.
template <int W, int R, bool Edge>
INLINE void convolve_pixels(const Problem& p, long size, long h, long start, const float* image, float* y) {
  const long reach = size / 2, channels = p.channels;
  Vec<W> sums[R] = {};
  for (long i = std::max(0l, reach - h); i < std::min(size, p.height + reach - h); i++)
    for (long j = 0; j < size; j++) {
      const float* tap = p.kernel + (i * size + j) * channels;
      const float* pixel = image + ((h + i - reach) * p.width + start + j - reach) * channels;
      for (long block = 0; block < channels; block += W) {
        const long count = Edge ? std::min<long>(W, channels - block) : W;
        const Vec<W> weights = load<W>(tap + block, count);
#pragma GCC unroll 8
        for (int t = 0; t < R; t++) {
          const long x = start + t + j - reach;
          if (!Edge || (x >= 0 && x < p.width)) sums[t] += weights * load<W>(pixel + t * channels + block, count);
        }
      }
    }
#pragma GCC unroll 8
  for (int t = 0; t < R; t++) {
    if (Edge && start + t >= p.width) break;
    float sum = p.bias[0];
    for (int lane = 0; lane < W; lane++) sum += sums[t][lane];
    y[start + t] = p.activation == kRelu && sum < 0 ? 0 : sum;
  }
}

// The rows from `first` to `last` of all images.
template <int W, int R>
INLINE void convolve_rows(const Problem& p, long size, long first, long last) {
  for (long row = first; row < last; row++) {
    const float* image = p.x + row / p.height * p.height * p.width * p.channels;
    for (long start = 0; start < p.width; start += R) {
      const bool edge = start < size / 2 || start + R + size / 2 > p.width || p.channels % W;
      if (edge) convolve_pixels<W, R, true>(p, size, row % p.height, start, image, p.y + row * p.width);
      else convolve_pixels<W, R, false>(p, size, row % p.height, start, image, p.y + row * p.width);
    }
  }
}

// One entry point for each instruction set; `width` is the number of floats in its vectors.
struct Kernel {
  const char* name;
  int width;
  void (*run)(const Problem&, const float* u, long first, long last);
  void (*run_rows)(const Problem&, long size, long first, long last);
};

// What every processor of the architecture has: SSE2 with 16 registers, NEON with 32.
#if defined(__aarch64__)
constexpr int kBaselineRows = 12;
#else
constexpr int kBaselineRows = 6;
#endif

#define RPFNET_KERNELS(NAME, TARGET, W, R)                                                               \
  TARGET inline void run_##NAME(const Problem& p, const float* u, long first, long last) {               \
    convolve_tiles<W, R>(p, u, first, last);                                                             \
  }                                                                                                      \
  TARGET inline void run_rows_##NAME(const Problem& p, long size, long first, long last) {               \
    convolve_rows<W, 8>(p, size, first, last);                                                           \
  }                                                                                                      \
  constexpr Kernel kernel_##NAME = {#NAME, W, run_##NAME, run_rows_##NAME};

RPFNET_KERNELS(baseline, , 4, kBaselineRows)
#if defined(__x86_64__)
RPFNET_KERNELS(avx2, __attribute__((target("avx2,fma"))), 8, 6)
RPFNET_KERNELS(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma"))), 16, 12)
#endif

// The best kernel that this processor has; `at_most` bounds the width of its vectors.
inline const Kernel& best_kernel(int at_most = 16) {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  static const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  if (has_avx512 && at_most >= 16) return kernel_avx512;
  if (has_avx2 && at_most >= 8) return kernel_avx2;
#endif
  return kernel_baseline;
}

// Runs `work(first, last)` on parts of `count` items, with the calling thread and whichever of the pool's come to help.
//
// `schedule` hands a task to the pool. Tasks that start late find no part left and touch nothing of this call, so it waits
// for the parts that were begun and not for the tasks: a pool that is busy with other calls can't block it.
template <class Schedule, class Work>
void in_parallel(long count, long smallest, long threads, Schedule&& schedule, Work work) {
  struct Parts {
    Work work;
    long count, number;
    std::atomic<long> next{0}, done{0};
    Parts(Work w, long c, long n) : work(std::move(w)), count(c), number(n) {}
  };
  // More parts than threads, because threads do not run at one speed.
  const long number = threads <= 1 ? 1 : std::max(1l, std::min(8 * threads, count / smallest));
  auto parts = std::make_shared<Parts>(std::move(work), count, number);
  auto task = [parts] {
    for (long part; (part = parts->next++) < parts->number;) {
      parts->work(parts->count * part / parts->number, parts->count * (part + 1) / parts->number);
      parts->done.fetch_add(1, std::memory_order_release);
    }
  };
  for (long i = 1; i < std::min(threads, number); i++) schedule(task);
  task();
  while (parts->done.load(std::memory_order_acquire) < number) std::this_thread::yield();
}

// Convolves; the kernel is size x size. `at_most` bounds the width of the vectors.
template <class Schedule>
void convolve(const Problem& p, long size, long threads, int at_most, Schedule&& schedule) {
  if (size != 3) {
    const auto run = best_kernel(p.channels < 16 ? std::min(at_most, 8) : at_most).run_rows;
    in_parallel(p.batch * p.height, 1, threads, schedule, [=](long first, long last) { run(p, size, first, last); });
    return;
  }
  // Narrow maps would leave lanes of wide vectors empty.
  const Kernel& kernel = best_kernel(p.channels <= 8 && p.features <= 8 ? std::min(at_most, 8) : at_most);
  const long stride = padded(p.features, kernel.width);
  auto u = std::make_shared<std::vector<float>>(36 * p.channels * stride);
  transform_kernel(p, stride, u->data());
  in_parallel(p.tiles(), kTiles, threads, schedule,
              [p, u, run = kernel.run](long first, long last) { run(p, u->data(), first, last); });
}

}  // namespace rpfnet

#if __has_include("xla/ffi/api/ffi.h")

#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;

static ffi::Error Convolve(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, ffi::ResultBuffer<ffi::F32> y,
                           int64_t dilation, int64_t activation, int64_t at_most) {
  const auto image = x.dimensions(), taps = kernel.dimensions(), out = y->dimensions();
  const bool fits = image.size() == 4 && taps.size() == 4 && out.size() == 4 && taps[0] == taps[1] && taps[0] % 2 == 1 &&
                    taps[2] == image[3] && out[0] == image[0] && out[1] == image[1] && out[2] == image[2] &&
                    out[3] == taps[3] && bias.element_count() == static_cast<size_t>(taps[3]) && dilation >= 1 &&
                    (taps[0] == 3 || (taps[3] == 1 && dilation == 1));
  if (!fits) return ffi::Error::InvalidArgument("x (B, H, W, C), kernel (k, k, C, D) and bias (D) do not fit");
  if (y->element_count() == 0) return ffi::Error::Success();
  const rpfnet::Problem problem = {x.typed_data(), kernel.typed_data(), bias.typed_data(), y->typed_data(), image[0], image[1],
                                   image[2], image[3], taps[3], dilation, static_cast<rpfnet::Activation>(activation)};
  rpfnet::convolve(problem, taps[0], pool.num_threads(), static_cast<int>(at_most), [&](auto work) { pool.Schedule(std::move(work)); });
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER(kConvolve, Convolve,
                       ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Ret<Floats>()
                           .Attr<int64_t>("dilation").Attr<int64_t>("activation").Attr<int64_t>("at_most"));

// The module has the XLA handler as a capsule, and the name of the kernel that this processor runs.
PyMODINIT_FUNC PyInit__winograd() {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_winograd", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  PyObject* module = PyModule_Create(&definition);
  if (!module) return nullptr;
  PyObject* handler = PyCapsule_New(reinterpret_cast<void*>(+kConvolve), "xla._CUSTOM_CALL_TARGET", nullptr);
  if (!handler || PyModule_AddObject(module, "convolve", handler) < 0 ||
      PyModule_AddStringConstant(module, "kernel", rpfnet::best_kernel().name) < 0) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}

#endif
