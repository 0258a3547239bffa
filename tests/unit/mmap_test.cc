// SPDX-License-Identifier: Apache-2.0
// Mapped files, and the promise of AtomicFile: PATH is whole or as it was before.
#include "wf/base/mmap.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "tests/catch.h"
#include "tests/scratch.h"

namespace wf {
namespace {

using test::ReadFile;
using test::TempDir;
using test::WriteFile;

TEST_CASE("a mapped file shows its bytes, also after a move") {
  const TempDir dir;
  WriteFile(dir / "a", "hello");
  Result<MappedFile> r = MappedFile::Open(dir / "a");
  REQUIRE(r.ok());
  MappedFile f = *std::move(r);
  CHECK(f.bytes() == "hello");
  CHECK(f.path() == dir / "a");
  MappedFile g = std::move(f);
  CHECK(g.bytes() == "hello");
  CHECK(f.bytes().empty());  // NOLINT(bugprone-use-after-move): moved-from is empty, as the header says
  std::filesystem::remove(dir / "a");
  CHECK(g.bytes() == "hello");
}

TEST_CASE("an empty file maps to an empty view") {
  const TempDir dir;
  WriteFile(dir / "empty", "");
  const Result<MappedFile> f = MappedFile::Open(dir / "empty");
  REQUIRE(f.ok());
  CHECK(f->bytes().empty());
  f->WillNeed(0, 10);
  f->DontNeed(0, 10);
}

TEST_CASE("hints take any range and change nothing") {
  const TempDir dir;
  const std::string data(10'000, 'x');
  WriteFile(dir / "a", data);
  const Result<MappedFile> f = MappedFile::Open(dir / "a");
  REQUIRE(f.ok());
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1}, uint64_t{4097}, uint64_t{9'999}, ~uint64_t{0}}) {
    for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{10'000}, ~uint64_t{0}}) {
      f->WillNeed(offset, length);
      f->DontNeed(offset, length);
    }
  }
  CHECK(f->bytes() == data);
}

TEST_CASE("what cannot be mapped is an error with the path and the reason") {
  const TempDir dir;
  const Result<MappedFile> none = MappedFile::Open(dir / "none");
  CHECK(none.status().code() == ErrorCode::kNotFound);
  CHECK(none.status().message() == (dir / "none") + ": cannot open: No such file or directory");
  const Result<MappedFile> folder = MappedFile::Open(dir.path());
  CHECK(folder.status().code() == ErrorCode::kIo);
  CHECK(folder.status().message() == dir.path() + ": not a regular file");
  CHECK(MappedFile::Open("/dev/null").status().code() == ErrorCode::kIo);
}

TEST_CASE("an atomic file appears at Commit, with all its bytes") {
  const TempDir dir;
  Result<AtomicFile> r = AtomicFile::Create(dir / "a");
  REQUIRE(r.ok());
  AtomicFile f = *std::move(r);
  REQUIRE(f.Write("hel", 3).ok());
  REQUIRE(f.Write("lo world", 8).ok());
  CHECK(f.offset() == 11);
  REQUIRE(f.WriteAt(0, "H", 1).ok());
  CHECK(f.offset() == 11);
  REQUIRE(f.Write("!", 1).ok());
  CHECK_FALSE(std::filesystem::exists(dir / "a"));
  REQUIRE(f.Flush().ok());
  CHECK(ReadFile(f.temp_path()) == "Hello world!");
  REQUIRE(f.Commit().ok());
  CHECK(ReadFile(dir / "a") == "Hello world!");
  CHECK(dir.Names() == std::vector<std::string>{"a"});
}

TEST_CASE("an atomic file is the same however its bytes are split") {
  const TempDir dir;
  std::string data(3u << 20, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 24);
  for (const size_t step :
       {size_t{999}, size_t{4096}, (size_t{1} << 20) - 1, size_t{1} << 20, (size_t{1} << 20) + 1, size_t{3} << 20}) {
    Result<AtomicFile> f = AtomicFile::Create(dir / "a");
    REQUIRE(f.ok());
    for (size_t i = 0; i < data.size(); i += step) {
      REQUIRE(f->Write(data.data() + i, std::min(step, data.size() - i)).ok());
    }
    REQUIRE(f->Commit().ok());
    CHECK((ReadFile(dir / "a") == data));
  }
}

TEST_CASE("without Commit nothing is left and an older file is untouched") {
  const TempDir dir;
  WriteFile(dir / "a", "older");
  {
    Result<AtomicFile> f = AtomicFile::Create(dir / "a");
    REQUIRE(f.ok());
    REQUIRE(f->Write("newer", 5).ok());
    REQUIRE(f->Flush().ok());
    CHECK(dir.Names().size() == 2);
    AtomicFile moved = *std::move(f);
    CHECK(dir.Names().size() == 2);
  }
  CHECK(dir.Names() == std::vector<std::string>{"a"});
  CHECK(ReadFile(dir / "a") == "older");
}

TEST_CASE("Commit replaces an older file; who has it mapped keeps the old bytes") {
  const TempDir dir;
  WriteFile(dir / "a", "older");
  const Result<MappedFile> map = MappedFile::Open(dir / "a");
  REQUIRE(map.ok());
  Result<AtomicFile> f = AtomicFile::Create(dir / "a");
  REQUIRE(f.ok());
  REQUIRE(f->Write("new", 3).ok());
  REQUIRE(f->Commit().ok());
  CHECK(ReadFile(dir / "a") == "new");
  CHECK(map->bytes() == "older");
}

TEST_CASE("assigning to an atomic file discards its own") {
  const TempDir dir;
  Result<AtomicFile> a = AtomicFile::Create(dir / "a");
  Result<AtomicFile> b = AtomicFile::Create(dir / "b");
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  REQUIRE(b->Write("b", 1).ok());
  *a = *std::move(b);
  CHECK(dir.Names().size() == 1);
  REQUIRE(a->Commit().ok());
  CHECK(dir.Names() == std::vector<std::string>{"b"});
}

TEST_CASE("permissions are those of the user's other files") {
  const TempDir dir;
  const mode_t old = ::umask(027);
  Result<AtomicFile> f = AtomicFile::Create(dir / "a");
  const Status s = f.ok() ? f->Commit() : f.status();
  const mode_t after = ::umask(old);
  REQUIRE(s.ok());
  CHECK(after == 027);
  struct stat st {};
  REQUIRE(::stat((dir / "a").c_str(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0640);
}

TEST_CASE("a full disk is an error with path, offset and reason, and leaves nothing") {
  const TempDir dir;
  WriteFile(dir / "a", "older");
  const std::string data(3u << 20, 'x');
  Status large, small_write, small_commit;
  {
    const test::FileSizeLimit limit(1u << 20);
    Result<AtomicFile> f = AtomicFile::Create(dir / "a");
    if (f.ok()) large = f->Write(data.data(), data.size());
  }
  {
    const test::FileSizeLimit limit(10);
    Result<AtomicFile> f = AtomicFile::Create(dir / "a");
    if (f.ok()) small_write = f->Write(data.data(), 20);  // buffered
    if (f.ok()) small_commit = f->Commit();
  }
  CHECK(large.code() == ErrorCode::kIo);
  CHECK(large.message() == (dir / "a") + ": write of 1048576 bytes at offset 1048576 failed: File too large");
  CHECK(small_write.ok());
  CHECK(small_commit.code() == ErrorCode::kIo);
  CHECK(small_commit.message() == (dir / "a") + ": write of 10 bytes at offset 10 failed: File too large");
  CHECK(dir.Names() == std::vector<std::string>{"a"});
  CHECK(ReadFile(dir / "a") == "older");
}

TEST_CASE("a folder that is missing or in the way is an error and leaves nothing") {
  const TempDir dir;
  const Result<AtomicFile> none = AtomicFile::Create(dir / "none/a");
  CHECK(none.status().code() == ErrorCode::kNotFound);
  CHECK(none.status().message() == (dir / "none/a") + ": cannot create: No such file or directory");
  std::filesystem::create_directory(dir / "folder");
  const Result<AtomicFile> f = AtomicFile::Create(dir / "folder");
  CHECK(f.status().code() == ErrorCode::kIo);
  CHECK(f.status().message() == (dir / "folder") + ": exists and is not a regular file");
  CHECK(dir.Names() == std::vector<std::string>{"folder"});
}

TEST_CASE("a FIFO is neither mapped, which would wait for a writer, nor replaced") {
  test::TempDir dir;
  const std::string path = dir / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const Result<MappedFile> mapped = MappedFile::Open(path);
  CHECK(mapped.status().message() == path + ": not a regular file");
  const Result<AtomicFile> file = AtomicFile::Create(path);
  CHECK(file.status().code() == ErrorCode::kIo);
  CHECK(file.status().message() == path + ": exists and is not a regular file");
  CHECK(dir.Names() == std::vector<std::string>{"fifo"});
}

TEST_CASE("an atomic file in memory can be mapped while it lives, and what was mapped lives on") {
  std::optional<MappedFile> mapped;
  {
    Result<AtomicFile> file = AtomicFile::CreateInMemory("a name");
    REQUIRE(file.ok());
    REQUIRE(file->Write("to be, or not", 13).ok());
    REQUIRE(file->Flush().ok());
    Result<MappedFile> m = MappedFile::Open(file->temp_path());
    REQUIRE(m.ok());
    mapped.emplace(*std::move(m));
    CHECK(file->Commit().ok());
  }
  CHECK(mapped->bytes() == "to be, or not");
}

}  // namespace
}  // namespace wf
