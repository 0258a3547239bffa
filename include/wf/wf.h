// SPDX-License-Identifier: Apache-2.0
// The umbrella: open a model, run an engine, get events. Link wf::model.
#ifndef WF_WF_H_
#define WF_WF_H_
#include "wf/engine/engine.h"
#include "wf/model/model.h"
#include "wf/version.h"
#endif  // WF_WF_H_
