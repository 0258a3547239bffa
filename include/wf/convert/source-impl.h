// SPDX-License-Identifier: Apache-2.0
// Reading a checkpoint's tensors in pieces: as floats, or as ternary values with their scales, whatever form they have
// there, in the order of the output. Part of convert.h's bodies.
#ifndef WF_CONVERT_SOURCE_IMPL_H_
#define WF_CONVERT_SOURCE_IMPL_H_

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/half.h"
#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/convert/convert.h"
#include "wf/convert/pieces-impl.h"
#include "wf/convert/ternarise-impl.h"
#include "wf/quant/ternary.h"

namespace wf::detail {

inline bool IsFloat(ElementType t) noexcept {
  return t == ElementType::kF32 || t == ElementType::kF16 || t == ElementType::kBF16;
}
inline bool IsTernary(ConvertOp op) noexcept {
  return op == ConvertOp::kTernarise || op == ConvertOp::kTernary || op == ConvertOp::kUnpack;
}
inline std::string ShapeText(const std::vector<uint64_t>& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return s + "]";
}

inline float FloatAt(const CheckpointTensor& t, uint64_t i) noexcept {
  if (t.type == ElementType::kF32) return LoadLe<float>(t.data + 4 * i);
  const uint16_t h = LoadLe<uint16_t>(t.data + 2 * i);
  return t.type == ElementType::kF16 ? F32FromF16(h) : F32FromBf16(h);
}

inline Status NotFinite(const CheckpointTensor& t, uint64_t i, float v) {
  return FormatError("tensor " + Quote(t.name) + ": element " + std::to_string(i) + " is " + FloatText(v) +
                     ", expected a finite number");
}
inline bool AllFinite(const float* v, size_t n) noexcept {
  uint32_t bad = 0;  // an exponent of all ones is NaN or infinity
  for (size_t i = 0; i < n; ++i) bad |= (std::bit_cast<uint32_t>(v[i]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
  return bad == 0;
}

// Elements [begin, begin + out.size()) of a float tensor; an error names the first that is not finite.
inline Status ReadFloats(const CheckpointTensor& t, uint64_t begin, std::span<float> out) {
  const size_t n = out.size();
  const uint8_t* p = t.data + begin * ElementTypeBytes(t.type);
  switch (t.type) {
    case ElementType::kF32:
      for (size_t i = 0; i < n; ++i) out[i] = LoadLe<float>(p + 4 * i);
      break;
    case ElementType::kF16:
      for (size_t i = 0; i < n; ++i) out[i] = F32FromF16(LoadLe<uint16_t>(p + 2 * i));
      break;
    default:
      for (size_t i = 0; i < n; ++i) out[i] = F32FromBf16(LoadLe<uint16_t>(p + 2 * i));
  }
  if (AllFinite(out.data(), n)) return OkStatus();
  for (size_t i = 0; i < n; ++i) {
    if (!std::isfinite(out[i])) return NotFinite(t, begin + i, out[i]);
  }
  return OkStatus();
}

// Where an element of the output lies: its part, and there its row and column. A vector has rows of one element, so
// that its elements can be permuted like the rows of the matrix that it belongs to.
class RowMap {
 public:
  explicit RowMap(const PlannedTensor& t) : heads_(t.permute_heads) {
    k_ = t.ne.empty() || (t.ne.size() == 1 && heads_ != 0) ? 1 : t.ne[0];
    rows_ = t.ne.size() > 1 ? t.ne[1] : (heads_ != 0 && !t.ne.empty() ? t.ne[0] : 1);
  }
  // False: the rows are not whole heads of an even size.
  bool Valid() const noexcept { return heads_ == 0 || rows_ % (2 * heads_) == 0; }
  bool Permuted() const noexcept { return heads_ != 0; }
  uint64_t k() const noexcept { return k_; }
  uint64_t rows() const noexcept { return rows_; }
  uint64_t elements() const noexcept { return k_ * rows_; }  // of a part
  // The row of the source part that becomes this one of the output.
  uint64_t SourceRow(uint64_t row) const noexcept {
    if (heads_ == 0) return row;
    const uint64_t head = rows_ / heads_, in_head = row % head;
    return row - in_head + in_head % 2 * (head / 2) + in_head / 2;
  }
  // Calls f(part, first element of the run in the source part, offset in the output, length) for runs of [begin, begin
  // + n) that lie together in the source; stops at an error.
  template <class F>
  Status Runs(uint64_t begin, uint64_t n, const F& f) const {
    for (uint64_t i = 0; i < n;) {
      const uint64_t part = (begin + i) / elements(), e = (begin + i) % elements();
      uint64_t run = std::min(n - i, elements() - e), at = e;
      if (heads_ != 0) {
        run = std::min(run, k_ - e % k_);
        at = SourceRow(e / k_) * k_ + e % k_;
      }
      WF_TRY(f(static_cast<size_t>(part), at, i, run));
      i += run;
    }
    return OkStatus();
  }

 private:
  uint64_t heads_, k_ = 1, rows_ = 1;
};

inline Status CheckRowMap(const PlannedTensor& t, const RowMap& map) {
  if (map.Valid()) return OkStatus();
  return InternalError("tensor " + Quote(t.name) + ": " + std::to_string(map.rows()) + " rows are not " +
                       std::to_string(t.permute_heads) + " heads of an even size");
}

// Lets go of source pages behind a reader that goes through a tensor from the beginning, so that a pass holds some
// megabytes of it.
class SpentPages {
 public:
  // No `source`: nothing is to be let go of.
  explicit SpentPages(const Checkpoint* source) : source_(source) {}
  // Bytes [begin, end) of the tensor are not needed for now; those before `begin` were given to an earlier call.
  void Upto(const CheckpointTensor& t, uint64_t begin, uint64_t end) {
    if (source_ == nullptr || end <= begin) return;
    CheckpointTensor part;
    part.data = t.data + begin;
    part.bytes = end - begin;
    part.shard = t.shard;
    part.file_offset = t.file_offset + begin;
    source_->Release(part);
  }

 private:
  const Checkpoint* source_;
};

// Follows a pass over an output tensor and lets go of what its parts have given.
class PartPages {
 public:
  PartPages(const PlannedTensor& t, const RowMap& map, const Checkpoint* source) : t_(t), map_(map), pages_(source) {}
  // Output elements before `element` are done. Only for float sources in the order of the output (by heads).
  void Before(uint64_t element) {
    if (t_.parts.empty() || element < done_ + kStep) return;
    const uint64_t step = map_.Permuted() ? map_.rows() / t_.permute_heads * map_.k() : 1;
    const uint64_t upto = element / step * step;
    while (done_ < upto) {
      const size_t p = static_cast<size_t>(done_ / map_.elements());
      const uint64_t first = static_cast<uint64_t>(p) * map_.elements();
      const uint64_t end = std::min(upto, first + map_.elements());
      const CheckpointTensor& s = *t_.parts[p].source;
      const uint64_t base = t_.parts[p].first_row * t_.ne[0], size = ElementTypeBytes(s.type);
      pages_.Upto(s, (base + done_ - first) * size, (base + end - first) * size);
      done_ = end;
    }
  }

 private:
  static constexpr uint64_t kStep = uint64_t{4} << 20;
  const PlannedTensor& t_;
  const RowMap& map_;
  SpentPages pages_;
  uint64_t done_ = 0;
};

// A dense tensor's values: converted, transposed, multiplied, rounded to few bits, or made.
class FloatSource {
 public:
  static Result<FloatSource> Open(const PlannedTensor& t) {
    FloatSource s(t);
    WF_TRY(CheckRowMap(t, s.map_));
    if (t.op == ConvertOp::kConstant && t.values.size() != t.elements()) {
      return InternalError("tensor " + Quote(t.name) + ": expected " + std::to_string(t.elements()) +
                           " values, found " + std::to_string(t.values.size()));
    }
    if (t.fake_bits != 0) WF_TRY(s.FindGroups());
    return s;
  }
  const RowMap& map() const noexcept { return map_; }
  // Can it be read in any order cheaply, and its pages be let go of behind the reader?
  bool InOrder() const noexcept { return t_.op == ConvertOp::kFloat; }

  // Values [begin, begin + out.size()); for any number of threads.
  Status Read(uint64_t begin, std::span<float> out) const {
    if (t_.op == ConvertOp::kConstant) {
      std::copy_n(t_.values.begin() + static_cast<std::ptrdiff_t>(begin), out.size(), out.begin());
      return OkStatus();
    }
    return map_.Runs(begin, out.size(), [&](size_t part, uint64_t at, uint64_t to, uint64_t n) {
      return ReadRun(part, at, out.subspan(static_cast<size_t>(to), static_cast<size_t>(n)));
    });
  }

  // "tensor 'x': element 7", of the source.
  std::string Where(uint64_t i) const {
    if (t_.parts.empty()) return "tensor " + Quote(t_.name) + ": element " + std::to_string(i);
    std::string s;
    (void)map_.Runs(i, 1, [&](size_t part, uint64_t at, uint64_t, uint64_t) {
      const PlannedPart& p = t_.parts[part];
      s = "tensor " + Quote(p.source->name) + ": element " + std::to_string(p.first_row * t_.ne[0] + Index(at));
      return OkStatus();
    });
    return s;
  }

 private:
  explicit FloatSource(const PlannedTensor& t) : t_(t), map_(t) {}

  // Of element `at` of a part as the output has it.
  uint64_t Index(uint64_t at) const noexcept {
    if (t_.op != ConvertOp::kTranspose) return at;
    return at % map_.k() * map_.rows() + at / map_.k();  // output (rows, k), source (k, rows)
  }

  Status ReadRun(size_t part, uint64_t at, std::span<float> out) const {
    const PlannedPart& p = t_.parts[part];
    const uint64_t base = p.first_row * t_.ne[0];
    if (t_.op == ConvertOp::kTranspose) {
      for (size_t i = 0; i < out.size(); ++i) {
        const uint64_t e = base + Index(at + i);
        out[i] = FloatAt(*p.source, e);
        if (!std::isfinite(out[i])) return NotFinite(*p.source, e, out[i]);
      }
    } else {
      WF_TRY(ReadFloats(*p.source, base + at, out));
    }
    if (t_.fake_bits != 0) {
      for (size_t i = 0; i < out.size(); ++i)
        out[i] = FakeQuantised(out[i], groups_[part][(base + Index(at + i)) / 32]);
    }
    if (t_.factor != 1) {
      for (size_t i = 0; i < out.size(); ++i) {
        const float v = out[i] * t_.factor;
        if (!std::isfinite(v)) return NotFinite(*p.source, base + Index(at + i), v);
        out[i] = v;
      }
    }
    return OkStatus();
  }

  // Symmetric, in groups of 32 over the flattened source; a scale of 0 is of a group of zeros.
  float FakeQuantised(float v, float scale) const noexcept {
    if (scale == 0) return 0;
    const float most = static_cast<float>((1u << (t_.fake_bits - 1)) - 1);
    return std::min(std::max(std::nearbyint(v / scale), -most - 1), most) * scale;
  }
  Status FindGroups() {
    if (t_.fake_bits < 2 || t_.fake_bits > 16) {
      return InternalError("tensor " + Quote(t_.name) + ": " + std::to_string(t_.fake_bits) + " bits");
    }
    const float most = static_cast<float>((1u << (t_.fake_bits - 1)) - 1);
    for (const PlannedPart& p : t_.parts) {
      const uint64_t n = p.source->elements();
      std::vector<float>& scales = groups_.emplace_back();
      float group[32];
      for (uint64_t i = 0; i < n; i += 32) {
        const size_t count = static_cast<size_t>(std::min<uint64_t>(32, n - i));
        WF_TRY(ReadFloats(*p.source, i, std::span<float>(group, count)));
        float largest = 0;
        for (size_t j = 0; j < count; ++j) largest = std::max(largest, std::fabs(group[j]));
        scales.push_back(largest / most);
      }
    }
    return OkStatus();
  }

  const PlannedTensor& t_;
  RowMap map_;
  std::vector<std::vector<float>> groups_;  // fake_bits: a scale for each 32 elements of each part's source
};

// Ternarise() of elements [begin, begin + n) of a float tensor.
inline Status TernariseRun(const CheckpointTensor& t, uint64_t begin, uint64_t n, float threshold, int8_t* out) {
  const uint8_t* p = t.data + begin * ElementTypeBytes(t.type);
  const size_t count = static_cast<size_t>(n);
  bool finite = true;
  if (t.type == ElementType::kF32) {
    constexpr uint32_t kInfinite = 0x7f800000;
    const auto decode = [](uint32_t w) { return std::bit_cast<float>(w); };
    finite = TernariseWords<uint32_t>(p, count, LeastKept<uint32_t>(threshold, kInfinite, decode), kInfinite, out);
  } else {
    const bool f16 = t.type == ElementType::kF16;
    const uint16_t infinite = f16 ? 0x7c00 : 0x7f80;
    const auto decode = [f16](uint16_t w) { return f16 ? F32FromF16(w) : F32FromBf16(w); };
    finite = TernariseWords<uint16_t>(p, count, LeastKept<uint16_t>(threshold, infinite, decode), infinite, out);
  }
  if (finite) return OkStatus();
  for (uint64_t i = begin; i < begin + n; ++i) {
    const float v = FloatAt(t, i);
    if (!std::isfinite(v)) return NotFinite(t, i, v);
  }
  return OkStatus();
}

// A projection's weights as s * {-1, 0, 1}, row-major (out, in), or several experts' of them, each with its own s.
class TernarySource {
 public:
  // Finds scales and form; for floats this reads the whole tensor, letting go of `source`'s pages. `tick`, called after
  // each piece with its number of elements, may stop it.
  template <class Tick>
  static Result<TernarySource> Open(const PlannedTensor& t, const Checkpoint* source, PieceRunner* runner,
                                    const Tick& tick) {
    TernarySource s(t);
    WF_TRY(CheckRowMap(t, s.map_));
    for (size_t p = 0; p < t.parts.size(); ++p) {
      if (t.op == ConvertOp::kUnpack) {
        s.scales_.push_back(t.parts[p].scale);
        s.thresholds_.push_back(1);
        s.form_ = "unpacked";
      } else {
        WF_TRY(s.FindScale(p, source, runner, tick));
      }
    }
    return s;
  }

  const std::vector<float>& scales() const noexcept { return scales_; }  // for each part
  const char* form() const noexcept { return form_; }
  const RowMap& map() const noexcept { return map_; }

  // The ternary values [begin, begin + n); for any number of threads.
  Status Read(uint64_t begin, uint64_t n, int8_t* out) const {
    return map_.Runs(begin, n, [&](size_t part, uint64_t at, uint64_t to, uint64_t count) {
      if (t_.op != ConvertOp::kUnpack) return ReadFloatRun(part, at, count, out + to);
      return t_.packed == PackedForm::kRowBlocks ? UnpackRowBlocks(part, at, count, out + to)
                                                 : UnpackI2sRows(part, at, count, out + to);
    });
  }

 private:
  static constexpr size_t kRun = 2048;  // floats on the stack

  explicit TernarySource(const PlannedTensor& t) : t_(t), map_(t) {}

  template <class Tick>
  Status FindScale(size_t p, const Checkpoint* source, PieceRunner* runner, const Tick& tick) {
    const PlannedPart& part = t_.parts[p];
    const uint64_t base = part.first_row * t_.ne[0];
    SpentPages pages(source);
    AbsStats stats;
    uint64_t released = 0;
    const uint64_t size = ElementTypeBytes(part.source->type);
    const auto make = [&](Piece* piece) -> Status {
      AbsStats own;
      float w[kRun];
      for (uint64_t i = 0; i < piece->n; i += kRun) {
        const size_t n = static_cast<size_t>(std::min<uint64_t>(kRun, piece->n - i));
        WF_TRY(ReadFloats(*part.source, base + piece->begin + i, std::span<float>(w, n)));
        own.Add(w, n);
      }
      piece->sum = own.sum;
      piece->magnitude = own.magnitude;
      piece->one = own.one;
      return OkStatus();
    };
    const auto take = [&](const Piece& piece) -> Status {
      stats.Join({piece.sum, piece.n, piece.magnitude, piece.one});
      const uint64_t done = piece.begin + piece.n;
      if (done - released >= kReleaseStep || done == map_.elements()) {
        pages.Upto(*part.source, (base + released) * size, (base + done) * size);
        released = done;
      }
      return tick(piece.n);
    };
    WF_TRY(runner->Run(map_.elements(), kConvertPiece, make, take));
    const float magnitude = stats.one ? stats.magnitude : 0.0f;
    if (t_.op == ConvertOp::kTernary && (!stats.one || (part.scale != 0 && magnitude != 0 && magnitude != 1))) {
      return FormatError("tensor " + Quote(part.source->name) + ": expected ternary values " +
                         (part.scale != 0 ? "{-1, 0, 1}, because it has a weight_scale" : "{-s, 0, s}") +
                         ", found other values");
    }
    thresholds_.push_back(magnitude != 0 ? magnitude : stats.Absmean());
    scales_.push_back(part.scale != 0 ? part.scale : thresholds_.back());
    const char* form = magnitude != 0 ? "already ternary" : "absmean";
    form_ = p == 0 || std::string_view(form) == form_ ? form : "absmean, some already ternary";
    return OkStatus();
  }

  Status ReadFloatRun(size_t part, uint64_t at, uint64_t n, int8_t* out) const {
    const PlannedPart& p = t_.parts[part];
    return TernariseRun(*p.source, p.first_row * t_.ne[0] + at, n, thresholds_[part], out);
  }

  // Packed (quarter x in) bytes from packed row first_row on: row i * quarter + r lies in the bits 2i of packed row r
  // (formats.md 3.8).
  Status UnpackRowBlocks(size_t part, uint64_t at, uint64_t n, int8_t* out) const {
    const PlannedPart& p = t_.parts[part];
    const uint64_t in = map_.k(), quarter = (map_.rows() + 3) / 4;
    for (uint64_t i = 0; i < n;) {
      const uint64_t row = (at + i) / in, col = (at + i) % in;
      const uint64_t run = std::min(n - i, in - col);
      const uint8_t* packed = p.source->data + (p.first_row + row % quarter) * in + col;
      const uint32_t shift = static_cast<uint32_t>(2 * (row / quarter));
      int8_t worst = 0;
      for (uint64_t j = 0; j < run; ++j) {
        const int8_t code = static_cast<int8_t>((packed[j] >> shift) & 3);
        worst = std::max(worst, code);
        out[i + j] = static_cast<int8_t>(code - 1);
      }
      if (worst == 3) return BadCode(p, row, col, run, out + i);
      i += run;
    }
    return OkStatus();
  }

  // Rows of I2_S: as every row is whole groups, the tensor is one stream of them.
  Status UnpackI2sRows(size_t part, uint64_t at, uint64_t n, int8_t* out) const {
    const PlannedPart& p = t_.parts[part];
    const uint64_t base = p.first_row * t_.ne[0], in = map_.k();
    for (uint64_t i = 0; i < n;) {
      const uint64_t e = base + at + i, lane = e % 32, run = std::min(n - i, 32 - lane);
      const uint8_t* packed = p.source->data + e / 128 * 32 + lane;
      const uint32_t shift = static_cast<uint32_t>(6 - 2 * (e % 128 / 32));
      int8_t worst = 0;
      for (uint64_t j = 0; j < run; ++j) {
        const int8_t code = static_cast<int8_t>((packed[j] >> shift) & 3);
        worst = std::max(worst, code);
        out[i + j] = static_cast<int8_t>(code - 1);
      }
      if (worst == 3) return BadCode(p, (at + i) / in, (at + i) % in, run, out + i);
      i += run;
    }
    return OkStatus();
  }

  static Status BadCode(const PlannedPart& p, uint64_t row, uint64_t col, uint64_t n, const int8_t* values) {
    uint64_t j = 0;
    while (j + 1 < n && values[j] != 2) ++j;
    return FormatError("tensor " + Quote(p.source->name) + ": row " + std::to_string(row) + ", column " +
                       std::to_string(col + j) + " has code 3, expected 0, 1 or 2");
  }

  static constexpr uint64_t kReleaseStep = uint64_t{4} << 20;  // elements
  const PlannedTensor& t_;
  RowMap map_;
  std::vector<float> scales_, thresholds_;
  const char* form_ = "";
};

}  // namespace wf::detail
#endif  // WF_CONVERT_SOURCE_IMPL_H_
