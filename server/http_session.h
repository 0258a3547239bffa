// SPDX-License-Identifier: Apache-2.0
// One HTTP connection: reads requests, hands them to the handler, writes answers, watches for a client that leaves.
// A template on the stream, so that beast::test::stream can drive it; included by http.cc and tests only.
#ifndef WF_SERVER_HTTP_SESSION_H_
#define WF_SERVER_HTTP_SESSION_H_

#include <algorithm>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/http.h"

namespace wf::server {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

// What all sessions of a server share; outlives them.
struct SessionShared {
  HttpLimits limits;
  Handler handler;
  ErrorBody error_body;
  std::atomic<int> active{0};
  std::atomic<bool> closing{false};  // answers carry Connection: close
  std::atomic<bool> stopped{false};  // the I/O threads are gone: post nothing more
};

// What the session needs of a stream beyond Asio's concepts; specialise it for a stream of a test.
template <class Stream>
struct StreamOps;
template <>
struct StreamOps<asio::ip::tcp::socket> {
  static void Cancel(asio::ip::tcp::socket& s) {
    beast::error_code ec;
    s.cancel(ec);
  }
  static void ShutdownSend(asio::ip::tcp::socket& s) {
    beast::error_code ec;
    s.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
  }
  static void Close(asio::ip::tcp::socket& s) {
    beast::error_code ec;
    s.close(ec);
  }
};

// The head of an answer. `length` < 0: chunked.
std::string ResponseHead(const HttpResponse& r, const std::string& id, int64_t length, bool http11, bool keep_alive);
std::string Chunk(std::string_view piece);
// Path and query of a request target; the path without trailing slashes, of "http://host/path" only the path.
void SplitTarget(std::string_view target, std::string* path, std::string* query);
// The client's x-request-id if it is 1 to 128 printable ASCII characters, else a new one.
std::string RequestId(std::string_view offered);

template <class Stream>
class Session : public std::enable_shared_from_this<Session<Stream>> {
 public:
  // The stream's executor must be a strand, or belong to a context with one thread.
  Session(Stream stream, std::shared_ptr<SessionShared> shared)
      : stream_(std::move(stream)),
        executor_(stream_.get_executor()),
        timer_(executor_),
        write_timer_(executor_),
        shared_(std::move(shared)) {}
  ~Session() { EndExchange(); }

  void Start() {
    asio::dispatch(executor_, [self = this->shared_from_this()] { self->ReadNext(); });
  }

 private:
  enum class Phase : uint8_t { kIdle, kHead, kBody, kBusy, kLinger, kClosed };

  // ---- The Responder of exchange `number_`; later exchanges ignore it.
  class Answer : public Responder {
   public:
    Answer(std::shared_ptr<Session> session, uint64_t number) : session_(std::move(session)), number_(number) {}
    ~Answer() override {
      On([n = number_](Session& s) { s.Abandoned(n); });
    }
    void Send(HttpResponse r) override {
      On([n = number_, r = std::move(r)](Session& s) mutable { s.Send(n, std::move(r)); });
    }
    void StartStream(HttpResponse head, std::string ping) override {
      On([n = number_, h = std::move(head), p = std::move(ping)](Session& s) mutable {
        s.StartStream(n, std::move(h), std::move(p));
      });
    }
    void Write(std::string piece) override {
      On([n = number_, p = std::move(piece)](Session& s) mutable { s.WritePiece(n, std::move(p)); });
    }
    void End(bool complete) override {
      On([n = number_, complete](Session& s) { s.EndStream(n, complete); });
    }
    void OnGone(std::function<void()> gone) override {
      On([n = number_, g = std::move(gone)](Session& s) mutable { s.SetGone(n, std::move(g)); });
    }
    void Post(std::function<void()> f) override {
      if (!session_->shared_->stopped.load()) asio::post(session_->executor_, std::move(f));
    }
    void PostAfter(int64_t ms, std::function<void()> f) override {
      auto timer = std::make_shared<asio::steady_timer>(session_->executor_, std::chrono::milliseconds(ms));
      timer->async_wait([timer, f = std::move(f)](beast::error_code ec) {
        if (!ec) f();
      });
    }

   private:
    template <class F>
    void On(F f) {
      if (session_->shared_->stopped.load()) return;
      asio::dispatch(session_->executor_, [s = session_, f = std::move(f)]() mutable { f(*s); });
    }
    std::shared_ptr<Session> session_;
    uint64_t number_;
  };

  // ---- Reading
  void ReadNext() {
    if (phase_ == Phase::kClosed) return;
    parser_.emplace();
    parser_->header_limit(shared_->limits.header_bytes);
    parser_->body_limit(shared_->limits.body_bytes);
    phase_ = Phase::kIdle;
    path_.clear();
    query_.clear();
    id_.clear();
    if (buffer_.size() > 0 && !reading_) return ReadHead();
    Arm(buffer_.size() > 0 ? shared_->limits.header_ms : shared_->limits.idle_ms);
    if (buffer_.size() > 0) return StreamOps<Stream>::Cancel(stream_);  // pipelined: OnSome() goes on with it
    ReadSome();
  }

  // One outstanding read outside a head or body: it waits for the next request and, while an answer is under way,
  // is how a closed connection is noticed.
  void ReadSome() {
    if (reading_) return;
    reading_ = true;
    stream_.async_read_some(buffer_.prepare(4096), [self = this->shared_from_this()](beast::error_code ec, size_t n) {
      self->reading_ = false;
      self->buffer_.commit(n);
      self->OnSome(ec);
    });
  }

  void OnSome(beast::error_code ec) {
    switch (phase_) {
      case Phase::kIdle:
        if (ec && (ec != asio::error::operation_aborted || timed_out_ || buffer_.size() == 0)) return Close();
        return ReadHead();
      case Phase::kBusy:
        if (ec == asio::error::eof && !shared_->limits.half_close_is_gone) return;  // writes will tell
        if (ec) return Gone();
        if (buffer_.size() < shared_->limits.pipelined_bytes) ReadSome();
        return;
      case Phase::kLinger:
        buffer_.consume(buffer_.size());
        if (ec || timed_out_) return Close();
        return ReadSome();
      case Phase::kHead:
      case Phase::kBody:
      case Phase::kClosed:
        return;
    }
  }

  void ReadHead() {
    phase_ = Phase::kHead;
    Arm(shared_->limits.header_ms);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = this->shared_from_this()](beast::error_code ec, size_t) { self->OnHead(ec); });
  }

  void OnHead(beast::error_code ec) {
    if (phase_ != Phase::kHead) return;
    // Of a refused head, too, what was understood serves the answer: its path and id.
    const auto& m = parser_->get();
    SplitTarget(m.target(), &path_, &query_);
    id_ = RequestId(m["x-request-id"]);
    if (ec) return ReadFailed(ec);
    http11_ = m.version() >= 11;
    if (std::distance(m.begin(), m.end()) > static_cast<std::ptrdiff_t>(shared_->limits.header_fields)) {
      return Refuse(431, "too_many_headers", "too many header fields");
    }
    const auto expect = m[http::field::expect];
    if (!expect.empty()) {
      if (!beast::iequals(expect, "100-continue")) return Refuse(417, "expectation_failed", "unknown Expect value");
      if (http11_ && !parser_->is_done()) {
        phase_ = Phase::kBody;
        Arm(shared_->limits.body_ms);
        static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
        asio::async_write(stream_, asio::buffer(kContinue.data(), kContinue.size()),
                          [self = this->shared_from_this()](beast::error_code e, size_t) {
                            if (e) return self->Close();
                            self->ReadBody();
                          });
        return;
      }
    }
    phase_ = Phase::kBody;
    Arm(shared_->limits.body_ms);
    ReadBody();
  }

  void ReadBody() {
    if (parser_->is_done()) return Dispatch();
    http::async_read(stream_, buffer_, *parser_, [self = this->shared_from_this()](beast::error_code ec, size_t) {
      if (self->phase_ != Phase::kBody) return;
      if (ec) return self->ReadFailed(ec);
      self->Dispatch();
    });
  }

  void ReadFailed(beast::error_code ec) {
    if (timed_out_) return Refuse(408, "request_timeout", "the request was not received in time");
    if (ec == http::error::body_limit) {
      return Refuse(413, "body_too_large",
                    "the body is larger than " + std::to_string(shared_->limits.body_bytes) + " bytes");
    }
    if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
      return Refuse(431, "headers_too_large",
                    "the head is longer than " + std::to_string(shared_->limits.header_bytes) + " bytes");
    }
    if (ec.category() == beast::error_code(http::error::bad_target).category() && ec != http::error::end_of_stream &&
        ec != http::error::partial_message) {
      return Refuse(400, "invalid_http", "not a valid HTTP request: " + ec.message());
    }
    Close();
  }

  // Answers an error of the HTTP layer and closes. What the client still sends is read and dropped for a while:
  // closing at once would reset the connection and could destroy the answer before it is read.
  void Refuse(int status, const char* slug, const std::string& message) {
    if (id_.empty()) id_ = RequestId({});
    BeginExchange();
    HttpResponse r;
    r.status = status;
    r.body = shared_->error_body ? shared_->error_body(status, slug, message, path_) : std::string();
    keep_alive_ = false;
    head_only_ = false;
    Send(number_, std::move(r));
  }

  // ---- The exchange: from a complete request to the last byte of its answer
  void BeginExchange() {
    ++number_;
    phase_ = Phase::kBusy;
    Disarm();
    answered_ = streaming_ = ending_ = false;
    shared_->active.fetch_add(1);
    counted_ = true;
  }

  void EndExchange() {
    gone_ = nullptr;
    if (counted_) shared_->active.fetch_sub(1);
    counted_ = false;
  }

  void Dispatch() {
    BeginExchange();
    auto m = parser_->release();
    parser_.reset();
    HttpRequest r;
    r.method = std::string(m.method_string());
    head_only_ = r.method == "HEAD";
    if (head_only_) r.method = "GET";
    r.path = path_;
    r.query = query_;
    for (const auto& f : m) {
      std::string name(f.name_string());
      std::transform(name.begin(), name.end(), name.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
      r.headers.emplace_back(std::move(name), std::string(f.value()));
    }
    keep_alive_ = m.keep_alive();
    r.body = std::move(m.body());
    r.id = id_;
    if (buffer_.size() < shared_->limits.pipelined_bytes) ReadSome();
    shared_->handler(std::move(r), std::make_shared<Answer>(this->shared_from_this(), number_));
  }

  bool Current(uint64_t n) const { return n == number_ && phase_ == Phase::kBusy; }

  void Abandoned(uint64_t n) {
    if (!Current(n) || ending_) return;
    if (streaming_) return EndStream(n, false);
    HttpResponse r;
    r.status = 500;
    if (shared_->error_body) r.body = shared_->error_body(500, "internal", "the request was not answered", path_);
    Send(n, std::move(r));
  }

  void SetGone(uint64_t n, std::function<void()> gone) {
    if (Current(n) && !ending_) {
      gone_ = std::move(gone);
    } else if (n == number_ && phase_ == Phase::kClosed && gone) {
      gone();
    }
  }

  void Send(uint64_t n, HttpResponse r) {
    if (!Current(n) || answered_) return;
    answered_ = ending_ = true;
    if (shared_->closing.load()) keep_alive_ = false;
    std::string out = ResponseHead(r, id_, static_cast<int64_t>(r.body.size()), http11_, keep_alive_);
    if (!head_only_) out += r.body;
    Queue(std::move(out));
  }

  void StartStream(uint64_t n, HttpResponse head, std::string ping) {
    if (!Current(n) || answered_) return;
    answered_ = streaming_ = true;
    if (shared_->closing.load() || !http11_) keep_alive_ = false;  // HTTP/1.0 has no chunks: the end is the close
    ping_ = std::move(ping);
    Queue(ResponseHead(head, id_, -1, http11_, keep_alive_));
    ArmPing();
  }

  void WritePiece(uint64_t n, std::string piece) {
    if (!Current(n) || !streaming_ || ending_ || piece.empty() || head_only_) return;
    Queue(http11_ ? Chunk(piece) : std::move(piece));
    ArmPing();
  }

  void EndStream(uint64_t n, bool complete) {
    if (!Current(n) || !streaming_ || ending_) return;
    ending_ = true;
    Disarm();
    if (!complete) keep_alive_ = false;
    if (complete && http11_ && !head_only_) Queue("0\r\n\r\n");
    if (!writing_) Written();
  }

  void ArmPing() {
    if (ping_.empty()) return;
    Arm(shared_->limits.ping_ms, [](Session& s) { s.WritePiece(s.number_, s.ping_); });
  }

  // ---- Writing
  void Queue(std::string bytes) {
    pending_.push_back(std::move(bytes));
    if (!writing_) Flush();
  }

  void Flush() {
    writing_ = true;
    in_flight_.swap(pending_);
    pending_.clear();
    std::vector<asio::const_buffer> buffers;
    buffers.reserve(in_flight_.size());
    for (const std::string& s : in_flight_) buffers.emplace_back(s.data(), s.size());
    asio::async_write(
        stream_, buffers,
        [self = this->shared_from_this()](beast::error_code ec, size_t) {  // called before each part is written
          if (!ec) self->ArmWrite();
          return ec ? size_t{0} : size_t{65536};
        },
        [self = this->shared_from_this()](beast::error_code ec, size_t) {
          self->writing_ = false;
          self->write_timer_.cancel();
          self->in_flight_.clear();
          if (self->phase_ == Phase::kClosed) return;
          if (ec) return self->Gone();
          if (!self->pending_.empty()) return self->Flush();
          self->Written();
        });
  }

  // A client that takes nothing for write_ms counts as gone.
  void ArmWrite() {
    write_timer_.expires_after(std::chrono::milliseconds(shared_->limits.write_ms));
    write_timer_.async_wait([self = this->shared_from_this()](beast::error_code ec) {
      if (!ec && self->writing_ && self->write_timer_.expiry() <= std::chrono::steady_clock::now()) self->Gone();
    });
  }

  void Written() {
    if (phase_ != Phase::kBusy || !ending_) return;
    EndExchange();
    if (keep_alive_) return ReadNext();
    phase_ = Phase::kLinger;
    StreamOps<Stream>::ShutdownSend(stream_);
    Arm(shared_->limits.linger_ms, [](Session& s) { s.Close(); });
    ReadSome();
  }

  // ---- Ends
  void Gone() {
    auto gone = std::move(gone_);
    gone_ = nullptr;
    Close();
    if (gone) gone();
  }

  void Close() {
    if (phase_ == Phase::kClosed) return;
    phase_ = Phase::kClosed;
    EndExchange();
    Disarm();
    write_timer_.cancel();
    pending_.clear();
    StreamOps<Stream>::Close(stream_);
  }

  // ---- The deadline of the present phase; without `f` it ends the read that is under way.
  void Arm(int64_t ms, void (*f)(Session&) = nullptr) {
    timed_out_ = false;
    const uint64_t generation = ++timer_generation_;
    timer_.expires_after(std::chrono::milliseconds(ms));
    timer_.async_wait([self = this->shared_from_this(), generation, f](beast::error_code ec) {
      if (ec || generation != self->timer_generation_) return;
      if (f != nullptr) return f(*self);
      self->timed_out_ = true;
      StreamOps<Stream>::Cancel(self->stream_);
    });
  }
  void Disarm() {
    ++timer_generation_;
    timed_out_ = false;
    timer_.cancel();
  }

  Stream stream_;
  asio::any_io_executor executor_;
  asio::steady_timer timer_, write_timer_;
  std::shared_ptr<SessionShared> shared_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::string path_, query_, id_, ping_;
  std::vector<std::string> pending_, in_flight_;
  std::function<void()> gone_;
  uint64_t number_ = 0, timer_generation_ = 0;
  Phase phase_ = Phase::kIdle;
  bool reading_ = false, writing_ = false, timed_out_ = false;
  bool http11_ = true, keep_alive_ = false, head_only_ = false;
  bool answered_ = false, streaming_ = false, ending_ = false, counted_ = false;
};

}  // namespace wf::server
#endif  // WF_SERVER_HTTP_SESSION_H_
