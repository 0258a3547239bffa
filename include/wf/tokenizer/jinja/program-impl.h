// SPDX-License-Identifier: Apache-2.0
// Every body of the template engine. Not for: declarations (program.h).
#ifndef WF_TOKENIZER_JINJA_PROGRAM_IMPL_H_
#define WF_TOKENIZER_JINJA_PROGRAM_IMPL_H_

#include "wf/tokenizer/jinja/eval-impl.h"
#include "wf/tokenizer/jinja/methods-impl.h"
#include "wf/tokenizer/jinja/parser_stmt-impl.h"
#include "wf/tokenizer/jinja/program.h"

#endif  // WF_TOKENIZER_JINJA_PROGRAM_IMPL_H_
