// Runs the convolutions without Python and XLA, on threads of its own, for the sanitizers: `bash tests/native/sanitize.sh`.
//
// Many calls at once share one pool that is smaller than what they ask for; every result is compared with a direct
// convolution. The kernels of all widths run on any processor, since vectors that it lacks are taken apart by the compiler.

#include "../../rpfnet_jax/native/winograd.cc"

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>

using namespace rpfnet;

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 0; i < threads; i++)
      workers_.emplace_back([this] {
        for (std::function<void()> task; take(&task);) task();
      });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
    }
    some_.notify_all();
    for (auto& worker : workers_) worker.join();
  }
  void schedule(std::function<void()> task) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    some_.notify_one();
  }

 private:
  bool take(std::function<void()>* task) {
    std::unique_lock<std::mutex> lock(mutex_);
    some_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
    if (tasks_.empty()) return false;
    *task = std::move(tasks_.front());
    tasks_.pop_front();
    return true;
  }
  std::mutex mutex_;
  std::condition_variable some_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> workers_;
  bool closed_ = false;
};

// Deterministic values in [-1, 1).
struct Values {
  uint32_t state = 1;
  float operator()() { return static_cast<int32_t>(state = state * 1664525u + 1013904223u) / 2147483648.f; }
};

struct Case {
  long batch, height, width, channels, features, dilation;
};

static int compare(const Case& c, const float* y, Problem p) {
  std::vector<float> expected(c.batch * c.height * c.width * c.features);
  p.y = expected.data();
  for (long tile = 0; tile < p.tiles(); tile++) convolve_directly(p, Place(p, tile));
  for (size_t i = 0; i < expected.size(); i++)
    if (!(std::fabs(y[i] - expected[i]) < 1e-4f * std::sqrt(9.f * c.channels))) {
      std::fprintf(stderr, "%ldx%ldx%ldx%ld to %ld, dilation %ld: %g instead of %g\n", c.batch, c.height, c.width, c.channels,
                   c.features, c.dilation, y[i], expected[i]);
      return 1;
    }
  return 0;
}

static int run(const Case& c, Pool& pool, int at_most) {
  Values next;
  // Exactly as long as they must be, so that the sanitizer sees a step beyond.
  std::vector<float> x(c.batch * c.height * c.width * c.channels), kernel(9 * c.channels * c.features), bias(c.features);
  std::vector<float> y(c.batch * c.height * c.width * c.features);
  for (auto* values : {&x, &kernel, &bias})
    for (float& value : *values) value = next();
  const Problem p = {x.data(), kernel.data(), bias.data(), y.data(), c.batch, c.height,
                     c.width,  c.channels,    c.features,  c.dilation, kRelu};
  if (at_most > 0) {
    convolve(p, 3, 4, at_most, [&](auto work) { pool.schedule(work); });
    return compare(c, y.data(), p);
  }
  // The widest kernel, compiled for any processor.
  const long stride = padded(c.features, 16);
  std::vector<float> u(36 * c.channels * stride);
  transform_kernel(p, stride, u.data());
  convolve_tiles<16, 12>(p, u.data(), 0, p.tiles());
  return compare(c, y.data(), p);
}

int main() {
  const Case cases[] = {{1, 16, 16, 1, 32, 1}, {2, 17, 19, 2, 8, 1},  {1, 40, 33, 7, 7, 3},   {2, 21, 50, 8, 8, 5},
                        {1, 16, 31, 16, 1, 1}, {3, 23, 24, 24, 48, 3}, {1, 64, 61, 32, 32, 1}, {1, 1, 1, 4, 4, 1},
                        {1, 5, 3, 3, 5, 2},    {1, 18, 16, 48, 24, 1}};
  Pool pool(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; caller++)
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 4; round++)
        for (const Case& c : cases)
          for (int at_most : {4, 8, 16}) wrong += run(c, pool, caller % 2 ? at_most : 20 - at_most);
    });
  for (auto& caller : callers) caller.join();
  for (const Case& c : cases) wrong += run(c, pool, 0);
  std::printf("%s, %d wrong\n", best_kernel().name, wrong.load());
  return wrong != 0;
}
