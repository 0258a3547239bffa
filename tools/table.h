// SPDX-License-Identifier: Apache-2.0
// Tables of text for people.
#ifndef WF_TOOLS_TABLE_H_
#define WF_TOOLS_TABLE_H_

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace wf {

using TextTable = std::vector<std::vector<std::string>>;

// Columns as wide as their widest cell. `flush` has an 'l' (left) or an 'r' for each column.
inline void PrintTable(const TextTable& table, const char* flush) {
  std::vector<size_t> widths;
  for (const auto& row : table) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : table) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - row[i].size(), ' ');
      line += (i == 0 ? "" : "  ") + (flush[i] == 'l' ? row[i] + pad : pad + row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
}

inline std::string Number(double v, const char* format = "%.2f") {
  char text[64];
  std::snprintf(text, sizeof(text), format, v);
  return text;
}

}  // namespace wf
#endif  // WF_TOOLS_TABLE_H_
