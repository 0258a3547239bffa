// SPDX-License-Identifier: Apache-2.0
// Carrying out a plan of requantise.h: metadata, tensors in pieces made by several threads, and the file read back.
// Part of requantise.h's bodies.
#ifndef WF_CONVERT_REQUANTISE_WRITE_IMPL_H_
#define WF_CONVERT_REQUANTISE_WRITE_IMPL_H_

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "wf/base/quote.h"
#include "wf/convert/metadata-impl.h"
#include "wf/convert/output-impl.h"
#include "wf/convert/pieces-impl.h"
#include "wf/convert/requantise.h"
#include "wf/convert/ternary_view-impl.h"
#include "wf/formats/gguf.h"
#include "wf/formats/gguf_writer.h"
#include "wf/quant/ternary.h"

namespace wf {
namespace detail {

// All that the input says but its own types, in its order.
inline void DescribeRequantised(const RequantisePlan& plan, GgufWriter* w) {
  const std::string bitlinear = plan.architecture + ".bitlinear";
  bool file_type = false, version = false;
  for (const GgufValue& v : plan.source->values()) {
    if (v.key == "general.file_type") {
      file_type = true;
      w->SetU32(v.key, FileTypeOf(plan.options.type));
    } else if (v.key == "general.quantization_version") {
      version = true;
      w->SetU32(v.key, 2);
    } else if (!(plan.add_bitlinear && v.key == bitlinear)) {
      w->SetRaw(v);
    }
  }
  if (!file_type) w->SetU32("general.file_type", FileTypeOf(plan.options.type));
  if (!version) w->SetU32("general.quantization_version", 2);
  if (plan.add_bitlinear) w->SetBool(bitlinear, true);
  for (const RequantisedTensor& t : plan.tensors) w->AddTensor(t.name, t.type, t.ne);
}

// Rows that a thread takes at once.
inline uint64_t RowsOfPiece(const TernaryView& view) noexcept {
  return std::max<uint64_t>(4, kConvertPiece / view.k() / 4 * 4);  // whole groups of four rows
}

// A ternary tensor on its way from one type to another.
class TernaryPath {
 public:
  static Result<TernaryPath> Open(const RequantisedTensor& t) {
    WF_ASSIGN(TernaryView view, TernaryView::Open(*t.source, t.from, t.magnitudes));
    return TernaryPath(t, std::move(view));
  }
  const TernaryView& view() const noexcept { return view_; }
  uint64_t groups() const noexcept { return view_.k() / share_; }  // scales of a row of the output

  // Values of a row, and the scales that the output stores for it: one for the row or for each block.
  void Row(uint64_t row, int8_t* values, float* scratch, float* scales) const noexcept {
    view_.Read(row, values, scratch);
    const size_t part = static_cast<size_t>(row / view_.rows());
    if (!t_.stored.empty()) {
      std::fill_n(scales, groups(), t_.stored[IsI2s(t_.type) ? 0 : part]);
      return;
    }
    (void)TakeOverScales(view_, share_, values, scratch, scales);  // planned: they fit
    for (uint64_t g = 0; g < groups(); ++g) scales[g] = NearestScale(scales[g] * t_.factors[part], ScaleType(t_.type));
  }

  // Rows [p->begin, p->begin + p->n) into p->bytes. I2_S groups may lie across rows, so its pieces are elements.
  void EncodeRows(Piece* p) const {
    const uint64_t k = view_.k();
    int8_t* values = p->Ternary(static_cast<size_t>(p->n * k));
    float* scratch = p->Floats(static_cast<size_t>(view_.groups() + p->n * groups()));
    float* scales = scratch + view_.groups();
    for (uint64_t r = 0; r < p->n; ++r) Row(p->begin + r, values + r * k, scratch, scales + r * groups());
    uint8_t* out = p->Bytes(static_cast<size_t>(PieceBytes(t_.type, k, p->n * k)));
    const uint64_t step = t_.type == TensorType::kIQ2_BN_R4 ? 4 : 1;
    for (uint64_t r = 0; r < p->n; r += step) {
      uint8_t* to = out + PieceBytes(t_.type, k, r * k);
      if (share_ == k) {
        EncodeTernary(t_.type, values + r * k, step * k, k, scales[r], to);
        for (uint64_t i = 1; i < step; ++i) StoreLe(to + 4 * i, scales[r + i]);  // four rows' scales lead
      } else {
        const uint64_t bytes = PieceBytes(t_.type, share_, share_);
        for (uint64_t g = 0; g < groups(); ++g) {
          EncodeTernary(t_.type, values + r * k + g * share_, share_, share_, scales[r * groups() + g], to + g * bytes);
        }
      }
    }
  }

  // Elements [p->begin, p->begin + p->n), whole groups, of an I2_S tensor.
  void EncodeFlat(Piece* p) const {
    const uint64_t k = view_.k(), first = p->begin / k, last = (p->begin + p->n - 1) / k;
    int8_t* values = p->Ternary(static_cast<size_t>((last - first + 1) * k));
    float* scratch = p->Floats(static_cast<size_t>(view_.groups()));
    for (uint64_t row = first; row <= last; ++row) view_.Read(row, values + (row - first) * k, scratch);
    EncodeTernary(t_.type, values + (p->begin - first * k), p->n, k, 1,
                  p->Bytes(static_cast<size_t>(PieceBytes(t_.type, k, p->n))));
  }

 private:
  TernaryPath(const RequantisedTensor& t, TernaryView view) : t_(t), view_(std::move(view)) {
    share_ = IsPackedTernary(t.type) ? TernaryScaleSize(t.type) : 0;
    if (share_ == 0) share_ = view_.k();
  }
  const RequantisedTensor& t_;
  TernaryView view_;
  uint64_t share_ = 0;
};

class Requantiser {
 public:
  Requantiser(const RequantisePlan& plan, ConvertObserver* observer)
      : plan_(plan), runner_(plan.options.threads), observer_(observer) {}

  Status Write(GgufWriter* w) {
    Ticker ticker(observer_, "writing", Work());
    for (const RequantisedTensor& t : plan_.tensors) {
      ticker.Begin(t.name);
      WF_TRY(WriteTensor(t, w, &ticker));
      if (t.source != nullptr) Release(*t.source);
    }
    return OkStatus();
  }

  Status Verify(const std::string& path) {
    WF_ASSIGN(const Gguf file, Gguf::Open(path));
    WF_TRY(CompareHead(path, file));
    Ticker ticker(observer_, "verifying", Work());
    for (const RequantisedTensor& t : plan_.tensors) {
      const GgufTensor* g = file.FindTensor(t.name);
      if (g == nullptr || g->type != t.type || g->bytes != t.bytes) {
        return InternalError("tensor " + Quote(t.name) + " was not written as planned");
      }
      ticker.Begin(t.name);
      WF_TRY(CompareTensor(t, file, *g, &ticker));
      Release(file, *g, 0, g->bytes);
      if (t.source != nullptr) Release(*t.source);
    }
    return OkStatus();
  }

 private:
  static constexpr uint64_t kCopyBytes = uint64_t{4} << 20;

  uint64_t Work() const {
    uint64_t n = 0;
    for (const RequantisedTensor& t : plan_.tensors) n += t.bytes;
    return n;
  }
  void Release(const GgufTensor& t) const { Release(*plan_.source, t, 0, t.bytes); }
  // Bytes of a tensor that are not needed for now.
  static void Release(const Gguf& g, const GgufTensor& t, uint64_t begin, uint64_t bytes) {
    if (g.file() != nullptr) g.file()->DontNeed(t.file_offset + begin, bytes);
  }
  // Rows of the source that a piece has been made of.
  void ReleaseRows(const RequantisedTensor& t, const Piece& p) const {
    const uint64_t row = t.source->bytes / t.source->rows();
    Release(*plan_.source, *t.source, p.begin * row, p.n * row);
  }
  static uint64_t DenseRows(const RequantisedTensor& t) noexcept {
    return std::max<uint64_t>(1, PieceElements(t.type, t.ne[0]) / t.ne[0]);
  }

  Status WriteTensor(const RequantisedTensor& t, GgufWriter* w, Ticker* ticker) {
    if (t.op == RequantiseOp::kScale) {
      WF_TRY(w->WriteTensorData(t.values.data(), t.values.size() * sizeof(float)));
      return ticker->Add(t.bytes);
    }
    if (t.op == RequantiseOp::kCopy) {
      for (uint64_t at = 0; at < t.bytes; at += kCopyBytes) {
        const uint64_t n = std::min(kCopyBytes, t.bytes - at);
        WF_TRY(w->WriteTensorData(t.source->data + at, static_cast<size_t>(n)));
        Release(*plan_.source, *t.source, at, n);
        WF_TRY(ticker->Add(n));
      }
      return OkStatus();
    }
    const uint64_t k = t.ne[0];
    const auto take_rows = [&](const Piece& p) -> Status {
      const uint64_t bytes = PieceBytes(t.type, k, p.n * k);
      WF_TRY(w->WriteTensorData(p.bytes.data(), static_cast<size_t>(bytes)));
      return ticker->Add(bytes);
    };
    if (t.op == RequantiseOp::kDense) {
      const auto make = [&](Piece* p) -> Status { return EncodeDenseRows(t, p); };
      const auto take = [&](const Piece& p) -> Status {
        ReleaseRows(t, p);
        return take_rows(p);
      };
      return runner_.Run(t.source->rows(), DenseRows(t), make, take);
    }
    WF_ASSIGN(const TernaryPath path, TernaryPath::Open(t));
    if (!IsI2s(t.type)) {
      const auto make = [&](Piece* p) -> Status {
        path.EncodeRows(p);
        return OkStatus();
      };
      return runner_.Run(t.source->rows(), RowsOfPiece(path.view()), make, take_rows);
    }
    const auto make = [&](Piece* p) -> Status {
      path.EncodeFlat(p);
      return OkStatus();
    };
    const auto take = [&](const Piece& p) -> Status {
      WF_TRY(w->WriteTensorData(p.bytes.data(), static_cast<size_t>(p.n / 4)));
      return ticker->Add(p.n / 4);
    };
    WF_TRY(runner_.Run(t.source->elements(), kConvertPiece, make, take));
    uint8_t tail[kI2sTail] = {};
    StoreLe(tail, t.stored[0]);
    WF_TRY(w->WriteTensorData(tail, sizeof(tail)));
    return ticker->Add(sizeof(tail));
  }

  static Status EncodeDenseRows(const RequantisedTensor& t, Piece* p) {
    DenseType from{};
    if (!ToDenseType(t.from, &from)) return InternalError("tensor " + Quote(t.name) + " is not dense");
    const size_t k = static_cast<size_t>(t.ne[0]), n = static_cast<size_t>(p->n);
    float* x = p->Floats(n * k);
    for (size_t r = 0; r < n; ++r) DequantRow(from, t.source->data, static_cast<size_t>(p->begin) + r, k, x + r * k);
    for (size_t i = 0; i < n * k; ++i) {
      if (!std::isfinite(x[i])) {
        return FormatError("tensor " + Quote(t.name) + ": element " + std::to_string(p->begin * k + i) + " is " +
                           FloatText(x[i]) + ", expected a finite number");
      }
    }
    uint8_t* out = p->Bytes(static_cast<size_t>(PieceBytes(t.type, k, n * k)));
    const uint64_t bad = EncodeDense(t.type, x, n * k, k, out, &p->rounded);
    if (bad == n * k) return OkStatus();
    return Unsupported("tensor " + Quote(t.name) + ": element " + std::to_string(p->begin * k + bad) + " is " +
                       FloatText(x[bad]) + ", which " + std::string(TensorTypeName(t.type)) + " cannot hold");
  }

  Status CompareHead(const std::string& path, const Gguf& file) const {
    if (file.file_bytes() != plan_.file_bytes || file.tensors().size() != plan_.tensors.size()) {
      return InternalError(path + ": expected " + std::to_string(plan_.file_bytes) + " bytes and " +
                           std::to_string(plan_.tensors.size()) + " tensors, found " +
                           std::to_string(file.file_bytes()) + " and " + std::to_string(file.tensors().size()));
    }
    for (const GgufValue& v : plan_.source->values()) {
      if (v.key == "general.file_type" || v.key == "general.quantization_version") continue;
      if (plan_.add_bitlinear && v.key == plan_.architecture + ".bitlinear") continue;
      const GgufValue* g = file.Find(v.key);
      if (g == nullptr || g->type != v.type || g->raw != v.raw) {
        return InternalError(path + ": key " + Quote(v.key) + " is not what the input has");
      }
    }
    return OkStatus();
  }

  static Status Differs(const RequantisedTensor& t, const std::string& what) {
    return InternalError("verification of tensor " + Quote(t.name) + " failed: " + what);
  }

  // Copies byte for byte, dense ones against another quantisation, ternary ones value by value through another reader
  // than the packer.
  Status CompareTensor(const RequantisedTensor& t, const Gguf& file, const GgufTensor& g, Ticker* ticker) {
    if (t.op == RequantiseOp::kScale) {
      if (std::memcmp(g.data, t.values.data(), t.bytes) != 0) return Differs(t, "other scales");
      return ticker->Add(t.bytes);
    }
    if (t.op == RequantiseOp::kCopy) {
      for (uint64_t at = 0; at < t.bytes; at += kCopyBytes) {
        const uint64_t n = std::min(kCopyBytes, t.bytes - at);
        if (std::memcmp(g.data + at, t.source->data + at, static_cast<size_t>(n)) != 0) {
          return Differs(t, "bytes from " + std::to_string(at) + " on");
        }
        Release(*plan_.source, *t.source, at, n);
        Release(file, g, at, n);
        WF_TRY(ticker->Add(n));
      }
      return OkStatus();
    }
    const uint64_t k = t.ne[0];
    const auto take = [&](const Piece& p) -> Status {
      const uint64_t bytes = PieceBytes(t.type, k, p.n * k);
      if (t.op == RequantiseOp::kDense) {
        ReleaseRows(t, p);
        Release(file, g, PieceBytes(t.type, k, p.begin * k), bytes);
      }
      return ticker->Add(bytes);
    };
    if (t.op == RequantiseOp::kDense) {
      const auto make = [&](Piece* p) -> Status {
        WF_TRY(EncodeDenseRows(t, p));
        const uint64_t bytes = PieceBytes(t.type, k, p->n * k), at = PieceBytes(t.type, k, p->begin * k);
        if (std::memcmp(p->bytes.data(), g.data + at, static_cast<size_t>(bytes)) == 0) return OkStatus();
        return Differs(t, "rows from " + std::to_string(p->begin) + " on");
      };
      return runner_.Run(t.source->rows(), DenseRows(t), make, take);
    }
    WF_ASSIGN(const TernaryPath path, TernaryPath::Open(t));
    WF_ASSIGN(const TernaryView back, TernaryView::Open(g, g.type, t.stored));
    const auto make = [&](Piece* p) -> Status { return CompareRows(t, path, back, p); };
    WF_TRY(runner_.Run(t.source->rows(), RowsOfPiece(path.view()), make, take));
    return IsI2s(t.type) ? ticker->Add(kI2sTail) : OkStatus();
  }

  static Status CompareRows(const RequantisedTensor& t, const TernaryPath& path, const TernaryView& back, Piece* p) {
    const uint64_t k = t.ne[0], groups = path.groups();
    int8_t* want = p->Ternary(static_cast<size_t>(2 * k));
    int8_t* found = want + k;
    std::vector<float> scratch(static_cast<size_t>(path.view().groups()));
    std::vector<float> scales(static_cast<size_t>(groups)), found_scales(static_cast<size_t>(groups));
    for (uint64_t row = p->begin; row < p->begin + p->n; ++row) {
      path.Row(row, want, scratch.data(), scales.data());
      back.Read(row, found, found_scales.data());
      if (std::memcmp(want, found, static_cast<size_t>(k)) != 0 || scales != found_scales) {
        return Differs(t, "row " + std::to_string(row) + " has other values or scales");
      }
      if (IsFloatType(t.type)) WF_TRY(CompareMagnitudes(t, back, row, scales[0]));
    }
    return OkStatus();
  }
  static Status CompareMagnitudes(const RequantisedTensor& t, const TernaryView& back, uint64_t row, float scale) {
    for (uint64_t i = row * back.k(); i < (row + 1) * back.k(); ++i) {
      const float v = std::fabs(back.FloatAt(i));
      if (v != 0 && v != scale) return Differs(t, "element " + std::to_string(i) + " is " + FloatText(v));
    }
    return OkStatus();
  }

  const RequantisePlan& plan_;
  PieceRunner runner_;
  ConvertObserver* observer_;
};

}  // namespace detail

WF_MODEL_INLINE Result<RequantiseReport> ExecuteRequantisation(const RequantisePlan& plan, const std::string& output,
                                                               ConvertObserver* observer) {
  const auto start = std::chrono::steady_clock::now();
  const auto since = [](std::chrono::steady_clock::time_point t) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
  };
  WF_TRY(detail::CheckOutputPlace(output, plan.file_bytes));
  if (detail::IsSameFile(plan.input, output)) return InvalidArgument(output + ": is the input");
  RequantiseReport report;
  report.output = output;
  report.file_bytes = plan.file_bytes;
  for (const RequantisedTensor& t : plan.tensors) {
    const bool ternary = t.op == RequantiseOp::kTernary || (t.op == RequantiseOp::kCopy && IsPackedTernary(t.type));
    if (ternary) report.ternary_parameters += t.source->elements();
  }
  GgufWriter writer;
  detail::DescribeRequantised(plan, &writer);
  WF_TRY(writer.Begin(output));
  detail::Requantiser work(plan, observer);
  WF_TRY(work.Write(&writer));
  WF_TRY(writer.Flush());
  const auto verifying = std::chrono::steady_clock::now();
  WF_TRY(work.Verify(writer.temp_path()));
  report.verify_seconds = since(verifying);
  WF_TRY(writer.Finish());
  report.seconds = since(start);
  return report;
}

}  // namespace wf
#endif  // WF_CONVERT_REQUANTISE_WRITE_IMPL_H_
