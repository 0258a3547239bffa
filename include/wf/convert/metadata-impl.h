// SPDX-License-Identifier: Apache-2.0
// What a plan's GGUF says about itself: keys (formats.md 1.2) and the table of tensors. Part of convert.h's bodies;
// requantise.h's take the file type from here.
#ifndef WF_CONVERT_METADATA_IMPL_H_
#define WF_CONVERT_METADATA_IMPL_H_

#include "wf/convert/convert.h"
#include "wf/formats/gguf_writer.h"
#include "wf/quant/types.h"

namespace wf::detail {

// general.file_type (formats.md 2.1); 40 is Microsoft's I2_S, from 136 on they are ik's. Informational: no reader may
// trust it.
inline uint32_t FileTypeOf(TensorType t) noexcept {
  switch (t) {
    case TensorType::kF32:
      return 0;
    case TensorType::kF16:
      return 1;
    case TensorType::kBF16:
      return 32;
    case TensorType::kTQ1_0:
      return 36;
    case TensorType::kTQ2_0:
      return 37;
    case TensorType::kQ2_0:
      return 41;
    case TensorType::kIQ1_BN:
      return 136;
    case TensorType::kIQ2_BN:
      return 137;
    case TensorType::kIQ2_BN_R4:
      return 337;
    default:
      return 40;
  }
}

inline void DescribeSampling(const HfSampling& s, GgufWriter* w) {
  if (s.top_k) w->SetI32("general.sampling.top_k", *s.top_k);
  if (s.top_p) w->SetF32("general.sampling.top_p", *s.top_p);
  if (s.min_p) w->SetF32("general.sampling.min_p", *s.min_p);
  if (s.temperature) w->SetF32("general.sampling.temp", *s.temperature);
  if (s.repetition_penalty) w->SetF32("general.sampling.penalty_repeat", *s.repetition_penalty);
}

// Sizes were checked against 2^24 when they were read.
class ArchWriter {
 public:
  ArchWriter(const std::string& architecture, GgufWriter* w) : prefix_(architecture + "."), w_(*w) {}
  void Size(const char* name, uint64_t v) { w_.SetU32(prefix_ + name, static_cast<uint32_t>(v)); }
  void Float(const char* name, double v) { w_.SetF32(prefix_ + name, static_cast<float>(v)); }
  void Bool(const char* name, bool v) { w_.SetBool(prefix_ + name, v); }
  void String(const char* name, const std::string& v) { w_.SetString(prefix_ + name, v); }

 private:
  std::string prefix_;
  GgufWriter& w_;
};

inline void DescribeExperts(const HfConfig& c, ArchWriter* w) {
  const HfExperts& x = c.experts;
  if (x.count == 0) return;
  w->Size("expert_count", x.count);
  w->Size("expert_used_count", x.used);
  w->Size("expert_feed_forward_length", x.ffn);
  if (x.shared_ffn != 0) w->Size("expert_shared_feed_forward_length", x.shared_ffn);
  w->Bool("expert_weights_norm", x.normalise);
}

inline void DescribeDiffusion(const HfDiffusion& d, ArchWriter* w) {
  if (d.style.empty()) return;
  w->String("diffusion.style", d.style);
  if (d.block_size != 0) w->Size("diffusion.block_size", d.block_size);
  if (d.sub_block_size != 0) w->Size("diffusion.sub_block_size", d.sub_block_size);
  if (d.threshold) w->Float("diffusion.threshold", static_cast<double>(*d.threshold));
}

inline void DescribeModel(const ConvertPlan& plan, GgufWriter* writer) {
  const HfConfig& c = plan.config;
  ArchWriter w(c.architecture, writer);
  w.Size("vocab_size", c.vocab);
  w.Size("context_length", c.context);
  w.Size("embedding_length", c.embedding);
  w.Size("block_count", c.layers);
  w.Size("feed_forward_length", c.ffn);
  w.Size("rope.dimension_count", c.head_dim);
  w.Size("attention.head_count", c.heads);
  w.Size("attention.head_count_kv", c.kv_heads);
  if (c.head_dim * c.heads != c.embedding || c.architecture.starts_with("qwen3")) {
    w.Size("attention.key_length", c.head_dim);
    w.Size("attention.value_length", c.head_dim);
  }
  w.Float("attention.layer_norm_rms_epsilon", c.rms_eps);
  if (plan.sub_norm_eps >= 0) w.Float("attention.sub_norm_epsilon", static_cast<double>(plan.sub_norm_eps));
  w.Float("rope.freq_base", c.rope_theta);
  if (c.rope == HfRope::kLinear || c.architecture == "bitnet") {  // the latter's writers always say so
    w.String("rope.scaling.type", "linear");
    w.Float("rope.scaling.factor", c.rope == HfRope::kLinear ? c.rope_factor : 1);
  }
  DescribeExperts(c, &w);
  w.Bool("bitlinear", true);  // activations are quantised, too, whatever type the weights have
  DescribeDiffusion(c.diffusion, &w);
}

inline void DescribeFile(const ConvertPlan& plan, GgufWriter* w) {
  w->SetString("general.architecture", plan.config.architecture);
  w->SetString("general.type", "model");
  w->SetString("general.name", plan.name);
  w->SetU32("general.file_type", FileTypeOf(OutTensorType(plan.options.outtype)));
  w->SetU32("general.quantization_version", 2);
  DescribeModel(plan, w);
  DescribeSampling(plan.config.sampling, w);
  WriteVocab(plan.vocab, w);
  for (const PlannedTensor& t : plan.tensors) w->AddTensor(t.name, t.type, t.ne);
}

}  // namespace wf::detail
#endif  // WF_CONVERT_METADATA_IMPL_H_
