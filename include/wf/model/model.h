// SPDX-License-Identifier: Apache-2.0
// A model as it is on disk, ready to run: the mapped GGUF, its configuration, weights as views, tokenizer and
// chat template. Immutable and shared; whoever runs it (engine/engine.h) brings threads and a cache.
#ifndef WF_MODEL_MODEL_H_
#define WF_MODEL_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/formats/gguf.h"
#include "wf/model/config.h"
#include "wf/model/weights.h"
#include "wf/tokenizer/chat_template.h"
#include "wf/tokenizer/tokenizer.h"

namespace wf {

// Sampling defaults that came with the checkpoint (generation_config.json, general.sampling.*).
struct GenerationDefaults {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
};

class Model {
 public:
  // Opens and checks a GGUF: header, metadata, tensor shapes against the configuration, tokenizer and template.
  // Reads no weights but the scales. Errors name file, key or tensor, expected and found.
  static Result<std::shared_ptr<const Model>> Open(const std::string& path, const WeightOptions& options = {});
  static Result<std::shared_ptr<const Model>> FromGguf(
      Gguf gguf, const WeightOptions& options = {}, std::vector<std::string> notices = {});  // come first in notices()

  const Gguf& gguf() const noexcept { return gguf_; }
  const Config& config() const noexcept { return config_; }
  const Weights& weights() const noexcept { return weights_; }
  const Tokenizer& tokenizer() const noexcept { return *tokenizer_; }
  const GenerationDefaults& defaults() const noexcept { return defaults_; }
  // nullptr if the file has none; an unusable one is replaced by a fallback, with a notice.
  const ChatTemplate* chat_template() const noexcept { return template_.get(); }
  std::string name() const;                                                      // general.name, else the file's stem
  const std::vector<std::string>& notices() const noexcept { return notices_; }  // corrections made while opening

 private:
  explicit Model(Gguf gguf) : gguf_(std::move(gguf)) {}
  Gguf gguf_;
  Config config_;
  Weights weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> template_;
  GenerationDefaults defaults_;
  std::vector<std::string> notices_;
};

// Prompt of a conversation: renders the template over `messages_json` (the API's array of messages) and tokenises
// it; text of the messages never becomes a control token. kUnsupported if the model has no template.
struct ChatPrompt {
  std::vector<int32_t> ids;
  std::string text;  // as rendered
};
Result<ChatPrompt> RenderChat(const Model& model, std::string_view messages_json, bool add_generation_prompt,
                              std::string_view extra_globals_json = {});

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/model-impl.h"
#endif
#endif  // WF_MODEL_MODEL_H_
