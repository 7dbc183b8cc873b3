// A sweep of single spin flips of a restricted Boltzmann machine, one walker at a time.
//
// The numbers u = exp(2 theta) of a walker stay in the first-level cache while all its
// proposals are tried; see native_sweep.py.  PLANES is 1 for real u, 2 for complex ones.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Doubles = ffi::Buffer<ffi::F64>;
using Ints = ffi::Buffer<ffi::S32>;
typedef double Lanes __attribute__((vector_size(64)));
typedef int64_t Words __attribute__((vector_size(64)));

static inline Lanes load(const double* p) {
  Lanes x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

static inline void store(double* p, Lanes x) { std::memcpy(p, &x, sizeof x); }

// A product whose exponents are counted apart, so that it neither over- nor underflows.
struct Product {
  Lanes mantissa = Lanes{} + 1.0;
  Words exponent = Words{};
  int64_t folds = 0;

  void times(Lanes x) {
    const Words bits = (Words)x;
    exponent += bits >> 52;
    mantissa *= (Lanes)((bits & 0xfffffffffffffLL) | (1023LL << 52));
    ++folds;
  }

  double log() const {
    double product = 1;
    int64_t power = -1023 * 8 * folds;
    for (int i = 0; i < 8; ++i) {
      product *= mantissa[i];
      power += exponent[i];
    }
    return std::log(product) + double(power) * 0.6931471805599453;
  }
};

// sum_j ln |1 + u_j f_j| over n hidden units, a multiple of 64.
static double log_one_plus(const double* u, const double* f, int64_t n) {
  Product product;
  for (int64_t k = 0; k < n; k += 64) {
    Lanes a = Lanes{} + 1.0, b = a;
    for (int64_t j = k; j < k + 64; j += 16) {
      for (int half = 0; half < 2; ++half) {
        const int64_t i = j + 8 * half;
        Lanes& to = half ? b : a;
#if PLANES == 1
        to *= 1.0 + load(u + i) * load(f + i);
#else
        const Lanes x = load(u + i), y = load(u + n + i);
        const Lanes g = load(f + i), h = load(f + n + i);
        const Lanes re = 1.0 + x * g - y * h, im = x * h + y * g;
        to *= re * re + im * im;
#endif
      }
    }
    product.times(a);
    product.times(b);
  }
  return product.log() / PLANES;
}

static void multiply(double* u, const double* f, int64_t n) {
  for (int64_t i = 0; i < n; i += 8) {
#if PLANES == 1
    store(u + i, load(u + i) * load(f + i));
#else
    const Lanes x = load(u + i), y = load(u + n + i);
    const Lanes g = load(f + i), h = load(f + n + i);
    store(u + i, x * g - y * h);
    store(u + n + i, x * h + y * g);
#endif
  }
}

// first (B, PLANES M), up and down (N, PLANES M), visible (N), sigma (B, N), sites (T),
// log_uniform (B, T) -> sigma, accepted moves (B).
static ffi::Error Sweep(Doubles first, Doubles up, Doubles down, Doubles visible,
                        Doubles sigma, Ints sites, Doubles log_uniform,
                        ffi::Result<Doubles> moved, ffi::Result<Doubles> accepted) {
  const int64_t walkers = first.dimensions()[0], width = first.dimensions()[1];
  const int64_t n_sites = sigma.dimensions()[1], n_moves = sites.dimensions()[0];
  const int64_t n_hidden = width / PLANES;
  std::vector<double> u(width);
  const std::vector<double> one(n_hidden, 1.0), zero(n_hidden, 0.0);
  std::vector<double> same(one);
  if (PLANES == 2) same.insert(same.end(), zero.begin(), zero.end());
  for (int64_t b = 0; b < walkers; ++b) {
    std::memcpy(u.data(), first.typed_data() + b * width, sizeof(double) * width);
    double* spins = moved->typed_data() + b * n_sites;
    std::memcpy(spins, sigma.typed_data() + b * n_sites, sizeof(double) * n_sites);
    double now = log_one_plus(u.data(), same.data(), n_hidden);
    int64_t count = 0;
    for (int64_t t = 0; t < n_moves; ++t) {
      const int64_t site = sites.typed_data()[t];
      const double spin = spins[site];
      const double* f = (spin > 0 ? up : down).typed_data() + site * width;
      const double after = log_one_plus(u.data(), f, n_hidden);
      const double ratio = spin * visible.typed_data()[site] + after - now;
      if (log_uniform.typed_data()[b * n_moves + t] < 2 * ratio) {
        multiply(u.data(), f, n_hidden);
        now = after;
        spins[site] = -spin;
        ++count;
      }
    }
    accepted->typed_data()[b] = double(count);
  }
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(sweep, Sweep,
                              ffi::Ffi::Bind()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Ints>()
                                  .Arg<Doubles>()
                                  .Ret<Doubles>()
                                  .Ret<Doubles>());
