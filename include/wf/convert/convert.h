// SPDX-License-Identifier: Apache-2.0
// A Hugging Face checkpoint becomes a GGUF: first a plan, with every check that needs no weights, then one tensor
// after the other, then the written file is read back and compared, and only then does it get its name. Ternary
// projections become s * {-1, 0, 1}; nothing else is quantised. Not for requantising a GGUF.
#ifndef WF_CONVERT_CONVERT_H_
#define WF_CONVERT_CONVERT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/convert/hf_config.h"
#include "wf/convert/names.h"
#include "wf/formats/checkpoint.h"
#include "wf/quant/types.h"
#include "wf/tokenizer/vocab.h"

namespace wf {

// How the ternary projections are stored. Norms and biases are F32; the embedding is F16 beside packed types, else of
// the outtype; the head is of the embedding's type, low-rank factors F16 (F32 and BF16 beside these outtypes): all
// three can be chosen. Where a type cannot hold a tensor's scale exactly, a ".scale" tensor beside it holds what is
// missing, so that all outtypes of a checkpoint run with the same scales: the rest of a 16-bit float's; the whole scale
// of types whose stored scale is an f16 (these then store 1). A scale that is known to fit has none beside it, nor has
// a file for a peer, whose scales are rounded. kSgl is sgl-kernel's .bin (formats.md 7.3), not a GGUF. kAuto: I2_S
// where rows are whole groups of 128, else the packed type that fits every projection, else BF16.
enum class OutType : uint8_t { kF32, kF16, kBF16, kI2_S, kTQ1_0, kTQ2_0, kIQ2_BN, kQ2_0, kSgl, kAuto };
inline constexpr const char* kOutTypeNames[] = {"f32",   "f16",    "bf16", "i2_s", "tq1_0",
                                                "tq2_0", "iq2_bn", "q2_0", "sgl",  "auto"};
// kInvalidArgument listing the known names.
Result<OutType> ParseOutType(std::string_view name);
// Of the ternary projections; not for kSgl and kAuto.
TensorType OutTensorType(OutType t) noexcept;

// A program that must be able to load the file: names, types and metadata are chosen for it, and what it cannot hold is
// refused with the reason.
enum class Peer : uint8_t { kNone, kBitnetCpp, kLlamaCpp, kIk };
inline constexpr const char* kPeerNames[] = {"", "bitnet.cpp", "llama.cpp", "ik"};

struct ConvertOptions {
  OutType outtype = OutType::kI2_S;
  std::optional<TensorType> embedding_type = {}, head_type = {};  // F32, F16, BF16, Q8_0, Q6_K, Q4_K or Q4_0
  std::optional<TensorType> lrc_type = {};                        // F32, F16, BF16, Q8_0 or Q4_0
  Peer peer = Peer::kNone;
  bool strict = false;         // a notice is an error
  bool vocab_only = false;     // metadata and tokenizer, no tensors
  std::string tokenizer = {};  // folder to take the tokenizer from; empty: the checkpoint's
  // Diffusion metadata (semantics.md 4.1) in place of the checkpoint's.
  std::string diffusion_style = {};
  std::optional<uint32_t> block_size = {}, sub_block_size = {};
  std::optional<float> threshold = {};
  std::optional<int32_t> mask_token = {};
  int threads = 0;  // that carry the plan out; 0: one a core. The bytes are the same for any number.
};

// What happens to a tensor's values on the way.
enum class ConvertOp : uint8_t {
  kFloat,      // converted to another dense type, if need be
  kTranspose,  // likewise, rows and columns swapped
  kTernarise,  // by absmean, or taken as they are if they are ternary already
  kTernary,    // floats that must be ternary already
  kUnpack,     // packed 2-bit codes with a scale
  kScaleRest,  // made: what the scales of the tensor before it lost to its type; a number for each of its parts
  kConstant,   // made: `values`
};

// How kUnpack's bytes hold codes: transformers' row blocks (formats.md 3.8), or sgl-kernel's rows of I2_S (7.3).
enum class PackedForm : uint8_t { kRowBlocks, kI2sRows };

// One matrix of the checkpoint that becomes an output tensor, or one expert of it.
struct PlannedPart {
  const CheckpointTensor* source = nullptr;
  uint64_t first_row = 0;  // of the output's ne[1] rows in the source, seen as rows of ne[0] elements (fused experts)
  float scale = 0;         // kUnpack, and kTernary with a weight_scale; otherwise found while converting
};

struct PlannedTensor {
  std::string name;          // in the GGUF; kSgl: the checkpoint's, without wrappers' parts
  std::vector<uint64_t> ne;  // there, innermost first
  TensorType type = TensorType::kF32;
  ConvertOp op = ConvertOp::kFloat;
  std::vector<PlannedPart> parts;              // one; experts: ne[2], each ternarised with a scale of its own
  PackedForm packed = PackedForm::kRowBlocks;  // kUnpack
  uint64_t permute_heads = 0;  // llama's q and k: output row h D + 2 j + s is row h D + s D / 2 + j; 0: no
  float factor = 1;            // kFloat, kTranspose: multiplies (LoRA's alpha / rank)
  uint32_t fake_bits = 0;      // likewise: first rounded in groups of 32 of the source to so many bits (QLRC)
  std::vector<float> values;   // kConstant
  uint64_t bytes = 0;          // in the GGUF
  const CheckpointTensor* source() const noexcept { return parts.empty() ? nullptr : parts[0].source; }
  std::string source_name() const { return parts.empty() ? std::string() : parts[0].source->name; }
  uint64_t elements() const noexcept {
    uint64_t n = 1;
    for (const uint64_t d : ne) n *= d;
    return n;
  }
};

struct ConvertPlan {
  std::string input;
  ConvertOptions options;  // outtype resolved: never kAuto
  HfConfig config;
  Vocab vocab;
  std::shared_ptr<const Checkpoint> source;  // owns what PlannedPart::source points to; vocab_only: may be null
  std::vector<PlannedTensor> tensors;        // in the order of the file
  float sub_norm_eps = -1;                   // of norms on projections' inputs; below 0: rms_norm_eps
  std::string name;                          // general.name
  uint64_t file_bytes = 0;                   // of the output
  std::vector<std::string> notices;          // odd, not fatal
};

struct ConvertedTensor {
  std::string name, source,
      operation;            // operation: "absmean", "already ternary", "unpacked", "converted", "copied", ...
  std::string source_type;  // "BF16"
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> ne;
  uint64_t bytes = 0;
  bool ternary = false;
  std::vector<float> scales;  // ternary: one for each part, as it will run
  double scale_error = 0;     // ternary: relative, by which these miss the checkpoint's at most
  double zeros = 0;           // ternary: share of zeros, 0 to 1
  uint64_t rounded = 0;       // values of a float tensor that the type could not hold exactly
};

struct ConvertReport {
  std::string output;
  uint64_t file_bytes = 0;
  uint64_t parameters = 0;  // elements of all tensors
  uint64_t ternary_parameters = 0;
  double zeros = 0;  // share of zeros among the ternary ones
  uint64_t rounded = 0;
  double seconds = 0;  // verification included
  double verify_seconds = 0;
  std::vector<ConvertedTensor> tensors;
  std::vector<std::string> notices;
};

struct ConvertProgress {
  const char* phase;        // "converting" or "verifying"
  std::string_view tensor;  // being worked on
  uint64_t done, total;     // elements of the phase
};

// Watches a conversion from the thread that runs it.
class ConvertObserver {
 public:
  virtual ~ConvertObserver() = default;
  virtual void Progress(const ConvertProgress&) {}     // a few times a second and at the end of a phase
  virtual bool Cancelled() noexcept { return false; }  // asked every few milliseconds; true: stop with kCancelled
};

// Reads config, tokenizer and the tensors' table of `input`, and the scales; no weights. `input` is a checkpoint's
// folder or an sgl-kernel .bin (then options.tokenizer is needed). Everything that can be known to be wrong by then is
// an error that names file and tensor, expected and found: missing tensors, shapes, types, element counts that the
// outtype cannot hold, tensors that would change the result if they were left out.
Result<ConvertPlan> PlanConversion(const std::string& input, const ConvertOptions& options);

// Carries out a plan. `output` appears whole and verified or not at all; an older file of that name is replaced. Memory
// is about that of the largest source tensor's pages. kIo when the disk is full (checked before, too), kFormat for
// NaN, infinity and invalid codes with tensor and index, kInternal if the file read back is not what was meant.
Result<ConvertReport> ExecuteConversion(const ConvertPlan& plan, const std::string& output,
                                        ConvertObserver* observer = nullptr);

const char* ConvertOpName(ConvertOp op) noexcept;

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/convert-impl.h"
#endif
#endif  // WF_CONVERT_CONVERT_H_
