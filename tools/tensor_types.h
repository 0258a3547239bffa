// SPDX-License-Identifier: Apache-2.0
// Tensor types, I2_S layouts and peers as values of command-line flags, and the progress of a conversion on the
// terminal: what wf-convert and wf-quantize share.
#ifndef WF_TOOLS_TENSOR_TYPES_H_
#define WF_TOOLS_TENSOR_TYPES_H_

#include <CLI/CLI.hpp>
#include <atomic>
#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/cli.h"
#include "wf/convert/convert.h"
#include "wf/convert/requantise.h"
#include "wf/quant/types.h"

namespace wf {

inline const std::vector<std::string> kDenseTypeNames = {"f32", "f16", "bf16", "q8_0", "q6_k", "q4_k", "q4_0"};
inline const std::vector<std::string> kLowRankTypeNames = {"f32", "f16", "bf16", "q8_0", "q4_0"};
inline const std::vector<std::string> kPeerFlags = {kPeerNames[1], kPeerNames[2], kPeerNames[3]};

// Names that the parser has let pass; empty: absent.
inline std::optional<TensorType> TypeOfFlag(const std::string& name) {
  for (const TensorTypeInfo& t : kTensorTypes) {
    if (LowerTypeName(t.type) == name) return t.type;
  }
  return std::nullopt;
}
inline Peer PeerOfFlag(const std::string& name) {
  for (size_t i = 1; i < std::size(kPeerNames); ++i) {
    if (name == kPeerNames[i]) return static_cast<Peer>(i);
  }
  return Peer::kNone;
}

// A progress bar, and Ctrl-C.
class ConvertWatch : public ConvertObserver {
 public:
  explicit ConvertWatch(const std::atomic<bool>* interrupted) : interrupted_(interrupted), bar_(std::in_place, "", 0) {}
  void Progress(const ConvertProgress& p) override {
    bar_->Update(p.done, p.total, std::string(p.phase) + " " + std::string(p.tensor));
  }
  bool Cancelled() noexcept override { return interrupted_->load(std::memory_order_relaxed); }
  void HideBar() { bar_.reset(); }

 private:
  const std::atomic<bool>* interrupted_;
  std::optional<ProgressBar> bar_;
};

inline std::string ShapeText(const std::vector<uint64_t>& ne) {
  std::string s;
  for (const uint64_t d : ne) s += (s.empty() ? "" : " x ") + std::to_string(d);
  return s.empty() ? "1" : s;
}
inline boost::json::array StringsJson(const std::vector<std::string>& v) {
  boost::json::array a;
  for (const std::string& s : v) a.emplace_back(s);
  return a;
}
inline boost::json::array SizesJson(const std::vector<uint64_t>& ne) {
  boost::json::array a;
  for (const uint64_t d : ne) a.emplace_back(d);
  return a;
}

}  // namespace wf
#endif  // WF_TOOLS_TENSOR_TYPES_H_
