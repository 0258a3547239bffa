// SPDX-License-Identifier: Apache-2.0
// The bodies of tokenizer/chat_template.h and the template engine under it, compiled once for wf::model.
#include "wf/tokenizer/chat_template-impl.h"
#include "wf/tokenizer/jinja/value-impl.h"
