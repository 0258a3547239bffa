// SPDX-License-Identifier: Apache-2.0
// Work on a tensor in pieces: made by several threads, taken in order, so that the bytes do not depend on the number of
// threads and memory does not depend on the tensor. And how values and scales become a type's bytes. Shared by
// converting and requantising; no files, no plans.
#ifndef WF_CONVERT_PIECES_IMPL_H_
#define WF_CONVERT_PIECES_IMPL_H_

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/half.h"
#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/base/thread_pool.h"
#include "wf/convert/convert.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"
#include "wf/quant/types.h"

namespace wf::detail {

// Elements that a thread takes at once: small enough for its cache, large enough to be worth handing out.
inline constexpr size_t kConvertPiece = size_t{1} << 16;
// Pieces between two looks at the clock, the cancel flag and the file.
inline constexpr size_t kConvertWindow = 16;

inline std::string FloatText(float v) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", static_cast<double>(v));
  return text;
}

// A float in 16 or 32 bits and back.
inline uint32_t EncodeFloat(float v, TensorType type) noexcept {
  if (type == TensorType::kF32) return std::bit_cast<uint32_t>(v);
  return type == TensorType::kF16 ? F16FromF32(v) : Bf16FromF32(v);
}
inline float DecodeFloat(uint32_t bits, TensorType type) noexcept {
  if (type == TensorType::kF32) return std::bit_cast<float>(bits);
  const uint16_t h = static_cast<uint16_t>(bits);
  return type == TensorType::kF16 ? F32FromF16(h) : F32FromBf16(h);
}
inline bool IsFloatType(TensorType t) noexcept {
  return t == TensorType::kF32 || t == TensorType::kF16 || t == TensorType::kBF16;
}
inline size_t FloatTypeBytes(TensorType t) noexcept { return t == TensorType::kF32 ? 4 : 2; }
// Types whose rows of ternary values each begin with a scale in f32.
inline bool HasRowScaleF32(TensorType t) noexcept { return t == TensorType::kIQ2_BN || t == TensorType::kIQ2_BN_R4; }
// The float type that a ternary type keeps its scale in.
inline TensorType ScaleType(TensorType t) noexcept {
  if (IsFloatType(t)) return t;
  return IsI2s(t) || HasRowScaleF32(t) ? TensorType::kF32 : TensorType::kF16;
}

// A scale as a 16-bit float type holds it: exactly, or rounded away from zero. Then the missing factor is below 1,
// where f32 is fine enough for the product to be the scale to the last bit.
inline float ScaleAbove(float scale, TensorType type) noexcept {
  const uint32_t bits = EncodeFloat(scale, type);
  const float stored = DecodeFloat(bits, type);
  return stored < scale ? DecodeFloat(bits + 1, type) : stored;
}
inline float NearestScale(float scale, TensorType type) noexcept { return DecodeFloat(EncodeFloat(scale, type), type); }

// The factor f for which stored * f is the scale, in f32 to the last bit where there is one.
inline float ScaleRest(float scale, float stored) noexcept {
  const float f = scale / stored;
  for (const float c : {f, std::nextafter(f, 0.0f), std::nextafter(f, 2 * f)}) {
    if (stored * c == scale) return c;
  }
  return f;
}

// The smallest number of elements of a tensor that is a whole number of bytes by itself, wherever it begins at a
// multiple of it: a row, four rows, a group, an element.
inline uint64_t PieceUnit(TensorType type, uint64_t ne0) noexcept {
  if (IsFloatType(type)) return 1;
  if (type == TensorType::kI2_S || type == TensorType::kI2_S_ARM64) return 128;
  return type == TensorType::kIQ2_BN_R4 || type == TensorType::kI2_S_X4 ? 4 * ne0 : ne0;
}
// Bytes of `n` elements, whole units, without I2_S's tail.
inline uint64_t PieceBytes(TensorType type, uint64_t ne0, uint64_t n) noexcept {
  if (IsFloatType(type)) return n * FloatTypeBytes(type);
  if (IsI2s(type)) return n / 4;
  const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
  return n / ne0 * (ne0 / info->block_elements * info->block_bytes + info->row_bytes);
}
// Elements of a piece of a tensor with that unit; fewer where each takes long.
inline uint64_t PieceElements(TensorType type, uint64_t unit) noexcept {
  const bool slow = type == TensorType::kQ6_K || type == TensorType::kQ4_K;
  const uint64_t want = slow ? kConvertPiece / 8 : kConvertPiece;
  return std::max<uint64_t>(1, want / unit) * unit;
}

// Counts work, reports it at most ten times a second, and notices cancellation.
class Ticker {
 public:
  Ticker(ConvertObserver* observer, const char* phase, uint64_t total)
      : observer_(observer), phase_(phase), total_(total) {}
  void Begin(std::string_view tensor) { tensor_ = tensor; }
  Status Add(uint64_t n) {
    done_ += n;
    if (observer_ == nullptr) return OkStatus();
    if (observer_->Cancelled()) {
      return Status(ErrorCode::kCancelled, "cancelled while " + std::string(phase_) + " " + Quote(tensor_));
    }
    const auto now = std::chrono::steady_clock::now();
    if (done_ >= total_ || now - last_ >= std::chrono::milliseconds(100)) {
      last_ = now;
      observer_->Progress({phase_, tensor_, done_, total_});
    }
    return OkStatus();
  }

 private:
  ConvertObserver* observer_;
  const char* phase_;
  uint64_t done_ = 0, total_;
  std::string_view tensor_;
  std::chrono::steady_clock::time_point last_{};
};

// What a thread makes of a piece; its buffers live as long as the pieces of all tensors.
struct Piece {
  uint64_t begin = 0, n = 0;   // elements
  std::vector<uint8_t> bytes;  // for the file
  std::vector<int8_t> ternary;
  std::vector<float> floats;
  uint64_t zeros = 0, rounded = 0;
  double sum = 0;
  float magnitude = 0;
  bool one = true;
  Status status;
  uint8_t* Bytes(size_t n_bytes) {
    if (bytes.size() < n_bytes) bytes.resize(n_bytes);
    return bytes.data();
  }
  int8_t* Ternary(size_t count) {
    if (ternary.size() < count) ternary.resize(count);
    return ternary.data();
  }
  float* Floats(size_t count) {
    if (floats.size() < count) floats.resize(count);
    return floats.data();
  }
};

// Threads and the buffers of a window of pieces.
class PieceRunner {
 public:
  // `threads` 0: one a core.
  // With fewer threads than asked for the pieces are the same.
  explicit PieceRunner(int threads) : pool_(threads > 0 ? threads : DefaultThreads()), window_(kConvertWindow) {}

  // [0, total) in pieces: make(Piece*) -> Status for each, on any thread; take(const Piece&) -> Status in order, on
  // this one, up to the first piece whose making failed. The error of the first piece that has one is returned.
  template <class Make, class Take>
  Status Run(uint64_t total, uint64_t piece, const Make& make, const Take& take) {
    for (uint64_t begin = 0; begin < total;) {
      size_t n = 0;
      for (; n < window_.size() && begin < total; ++n) {
        window_[n].begin = begin;
        window_[n].n = std::min(piece, total - begin);
        window_[n].zeros = window_[n].rounded = 0;
        begin += window_[n].n;
      }
      pool_.ParallelFor(n, 1, [&](size_t first, size_t last, int) {
        for (size_t i = first; i < last; ++i) window_[i].status = make(&window_[i]);
      });
      for (size_t i = 0; i < n; ++i) {
        WF_TRY(window_[i].status);
        WF_TRY(take(static_cast<const Piece&>(window_[i])));
      }
    }
    return OkStatus();
  }

 private:
  ThreadPool pool_;
  std::vector<Piece> window_;
};

inline uint64_t CountZeros(const int8_t* v, uint64_t n) noexcept {
  uint64_t zeros = 0;
  for (uint64_t i = 0; i < n;) {
    uint8_t some = 0;  // of up to 128: a byte is enough
    for (const uint64_t end = std::min<uint64_t>(n, i + 128); i < end; ++i)
      some = static_cast<uint8_t>(some + (v[i] == 0 ? 1 : 0));
    zeros += some;
  }
  return zeros;
}

// Rows x k ternary values, whole units of the type, with scale d as the type holds it.
inline void EncodeTernary(TensorType type, const int8_t* values, uint64_t n, uint64_t k, float d,
                          uint8_t* out) noexcept {
  if (!IsFloatType(type)) {
    if (type == TensorType::kI2_S || type == TensorType::kI2_S_ARM64) k = 128;  // groups, not rows
    PackTernary(type, values, static_cast<size_t>(n / k), static_cast<size_t>(k), d, out);
    return;
  }
  if (type == TensorType::kF32) {
    const float words[3] = {-d, 0, d};
    for (uint64_t i = 0; i < n; ++i) StoreLe(out + 4 * i, words[values[i] + 1]);
    return;
  }
  const uint16_t words[3] = {static_cast<uint16_t>(EncodeFloat(-d, type)), 0,
                             static_cast<uint16_t>(EncodeFloat(d, type))};
  for (uint64_t i = 0; i < n; ++i) StoreLe(out + 2 * i, words[values[i] + 1]);
}

// Finite floats, whole rows of k where the type has blocks; *rounded grows by the values that the type cannot hold
// exactly. Returns the first that it cannot hold at all (it would be infinite), or n.
inline uint64_t EncodeDense(TensorType type, const float* x, uint64_t n, uint64_t k, uint8_t* out, uint64_t* rounded) {
  uint64_t bad = n;
  if (IsFloatType(type)) {
    const size_t size = FloatTypeBytes(type);
    uint64_t lost = 0;
    for (uint64_t i = 0; i < n; ++i) {
      const uint32_t word = EncodeFloat(x[i], type);
      const float back = DecodeFloat(word, type);
      if (back != x[i]) {
        ++lost;
        if (!std::isfinite(back)) bad = std::min(bad, i);
      }
      std::memcpy(out + size * i, &word, size);
    }
    *rounded += lost;
    return bad;
  }
  DenseType dense{};
  if (!ToDenseType(type, &dense)) return 0;
  std::vector<float> back(k);
  const uint64_t row_bytes = PieceBytes(type, k, k);
  for (uint64_t row = 0; row < n / k; ++row) {
    QuantiseDenseRow(type, x + row * k, k, out + row * row_bytes);
    DequantRow(dense, out + row * row_bytes, 0, k, back.data());
    for (uint64_t i = 0; i < k; ++i) {
      *rounded += back[i] != x[row * k + i] ? 1 : 0;
      if (!std::isfinite(back[i])) bad = std::min(bad, row * k + i);
    }
  }
  return bad;
}

// The values and scales of `n` elements, whole units, of a packed tensor at `w` that begin at element `begin`: every
// value, and whether each stored scale is `d` to the bit (I2_S: none is stored there).
inline bool DecodeTernary(TensorType type, const uint8_t* w, uint64_t begin, uint64_t n, uint64_t k, float d,
                          int8_t* values) {
  if (type == TensorType::kI2_S || type == TensorType::kI2_S_ARM64) k = 128;
  const size_t share = TernaryScaleSize(type);
  std::vector<float> scales(share == 0 ? 1 : k / share);
  bool same = true;
  for (uint64_t row = 0; row < n / k; ++row) {
    UnpackTernary(type, w, static_cast<size_t>(begin / k + row), k, values + row * k, scales.data());
    if (IsI2s(type)) continue;
    for (const float s : scales) same = same && std::bit_cast<uint32_t>(s) == std::bit_cast<uint32_t>(d);
  }
  return same;
}

// How a tensor's scale (or its experts' scales) lies in the file.
struct StoredScales {
  std::vector<float> stored;  // in the tensor itself, for each part
  std::vector<float> rest;    // what multiplies it: the ".scale" tensor; 1 if there is none
  double error = 0;           // relative, the largest by which stored * rest misses a scale
  std::vector<float> Run() const {
    std::vector<float> v(stored.size());
    for (size_t i = 0; i < v.size(); ++i) v[i] = stored[i] * rest[i];
    return v;
  }
};
// `rest`: there is a ".scale" tensor for what the type cannot hold. kUnsupported where a scale becomes 0 or infinite,
// or where experts have scales of their own and there is no place for them.
inline Result<StoredScales> StoreScales(const std::string& name, TensorType type, const std::vector<float>& scales,
                                        bool rest) {
  StoredScales s;
  s.rest.assign(scales.size(), 1.0f);
  for (size_t i = 0; i < scales.size(); ++i) {
    const float scale = scales[i];
    float d = scale;
    if (IsI2s(type) && scales.size() > 1) {
      if (!rest) {
        return Unsupported("tensor " + Quote(name) + ": I2_S has one scale a tensor, and its " +
                           std::to_string(scales.size()) + " experts have their own");
      }
      d = 1;
      s.rest[i] = scale;
    } else if (type == TensorType::kF16 || type == TensorType::kBF16) {
      d = rest ? ScaleAbove(scale, type) : NearestScale(scale, type);
      if (rest) s.rest[i] = ScaleRest(scale, d);
    } else if (ScaleType(type) == TensorType::kF16) {
      d = rest ? 1.0f : NearestScale(scale, TensorType::kF16);
      if (rest) s.rest[i] = scale;
    }
    if (!(d > 0) || !std::isfinite(d)) {
      return Unsupported("tensor " + Quote(name) + ": " + std::string(TensorTypeName(type)) +
                         " cannot hold its scale, " + FloatText(scale) + "; use --outtype bf16, f32 or i2_s");
    }
    s.stored.push_back(d);
    const double run = static_cast<double>(d * s.rest[i]);
    s.error = std::max(s.error, std::fabs(run / static_cast<double>(scale) - 1));
  }
  return s;
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PIECES_IMPL_H_
