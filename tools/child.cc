// SPDX-License-Identifier: Apache-2.0
// posix_spawn, three pipes and one poll loop. Not for anything that knows what the programs mean.
#include "tools/child.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "wf/base/quote.h"

extern char** environ;

namespace wf {
namespace {

struct Pipe {
  int fd[2] = {-1, -1};  // read, write
  bool Open() { return ::pipe2(fd, O_CLOEXEC) == 0; }
  void Close(int end) {
    if (fd[end] >= 0) ::close(fd[end]);
    fd[end] = -1;
  }
  ~Pipe() {
    Close(0);
    Close(1);
  }
};

// Reads what there is and keeps up to `limit` bytes; false at the end of the stream.
bool Drain(int fd, std::string* text, size_t limit) {
  char buffer[16384];
  const ssize_t n = ::read(fd, buffer, sizeof(buffer));
  if (n > 0 && text->size() < limit) text->append(buffer, std::min(static_cast<size_t>(n), limit - text->size()));
  return n > 0 || (n < 0 && errno == EINTR);
}

// Ends the process group of a child that nobody waits for any longer.
void End(pid_t pid) {
  ::kill(-pid, SIGTERM);
  for (int i = 0; i < 200; ++i) {
    if (::waitpid(pid, nullptr, WNOHANG) != 0) break;
    if (i == 199) {
      ::kill(-pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    ::usleep(10000);
  }
  ::kill(-pid, SIGKILL);  // grandchildren that did not listen
}

// How long what a child left behind may go on writing.
constexpr auto kLinger = std::chrono::seconds(1);

Result<pid_t> Spawn(const std::vector<std::string>& argv, const Pipe& in, const Pipe& out, const Pipe& err) {
  std::vector<char*> args;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in.fd[0], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, out.fd[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, err.fd[1], STDERR_FILENO);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t defaults;  // ignored signals would stay ignored in the child
  ::sigemptyset(&defaults);
  for (const int s : {SIGPIPE, SIGXFSZ, SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&defaults, s);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  sigset_t none;  // so would blocked ones
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, args[0], &actions, &attributes, args.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error == ENOENT) return NotFound("the program " + Quote(argv[0]) + " is not in PATH");
  if (error != 0) return IoError("cannot start " + Quote(argv[0]) + ": " + std::strerror(error));
  return pid;
}

}  // namespace

Result<ChildResult> RunChild(const std::vector<std::string>& argv, const ChildOptions& options) {
  if (argv.empty()) return InvalidArgument("no program to run");
  if (options.input.size() > 4096) return LimitError("more than 4096 bytes for the standard input of " + argv[0]);
  Pipe in, out, err;
  if (!in.Open() || !out.Open() || !err.Open()) return IoError(std::string("cannot make pipes: ") + strerror(errno));
  if (::write(in.fd[1], options.input.data(), options.input.size()) != static_cast<ssize_t>(options.input.size())) {
    return IoError(std::string("cannot write to a pipe: ") + std::strerror(errno));
  }
  WF_ASSIGN(const pid_t pid, Spawn(argv, in, out, err));
  in.Close(0);
  for (Pipe* p : {&in, &out, &err}) p->Close(1);

  ChildResult result;
  Status status;
  int wait_status = 0;
  bool ended = false;
  auto next_tick = std::chrono::steady_clock::now(), end = next_tick;  // end: of the child
  while (status.ok() && !(ended && out.fd[0] < 0 && err.fd[0] < 0)) {
    pollfd fds[2] = {{out.fd[0], POLLIN, 0}, {err.fd[0], POLLIN, 0}};  // poll skips those that are -1
    ::poll(fds, 2, out.fd[0] < 0 && err.fd[0] < 0 ? 10 : 100);
    if (fds[0].revents != 0 && !Drain(out.fd[0], &result.output, options.max_output + 1)) out.Close(0);
    if (fds[1].revents != 0 && !Drain(err.fd[0], &result.errors, size_t{64} << 10)) err.Close(0);
    if (result.output.size() > options.max_output) {
      status = LimitError(argv[0] + " printed more than " + std::to_string(options.max_output) + " bytes");
    }
    const auto now = std::chrono::steady_clock::now();
    if (!ended && ::waitpid(pid, &wait_status, WNOHANG) == pid) {
      ended = true;
      end = now;
    }
    if (ended && now - end > kLinger && (out.fd[0] >= 0 || err.fd[0] >= 0)) {
      ::kill(-pid, SIGTERM);  // they hold the caller's locks, too
      break;
    }
    if (options.interrupted != nullptr && *options.interrupted) status = Status(ErrorCode::kCancelled, "interrupted");
    if (status.ok() && options.tick && now >= next_tick) {
      status = options.tick();
      next_tick = now + std::chrono::milliseconds(100);
    }
  }
  if (!status.ok()) {
    if (ended) {
      ::kill(-pid, SIGKILL);
    } else {
      End(pid);
    }
    return status;
  }
  result.code = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  return result;
}

}  // namespace wf
