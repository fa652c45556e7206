package awstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// A Fault is what goes wrong with a call.
type Fault string

// Answers that are errors.
const (
	None         Fault = ""
	Throttled    Fault = "throttled"
	Denied       Fault = "denied"
	Expired      Fault = "expired token"
	Unrecognized Fault = "unknown access key"
	Skewed       Fault = "clock skewed"
	Internal     Fault = "internal error"
	Unavailable  Fault = "key unavailable"
	Gateway      Fault = "gateway error" // of a proxy, in HTML
	Busy         Fault = "busy"          // 429 of a proxy, in HTML, with Retry-After: 1
	Page         Fault = "page"          // 200 with HTML, as captive portals have it
	Huge         Fault = "huge answer"
)

// Faults of connections. Only Lost, Torn and Reset come after the call was carried out.
const (
	Silence Fault = "silence"       // no answer, for ever
	Cut     Fault = "cut"           // hangs up before anything is done
	Lost    Fault = "answer lost"   // hangs up when it is done
	Torn    Fault = "answer broken" // hangs up in the middle of the answer
	Reset   Fault = "answer reset"  // resets the connection in the middle of the answer
)

// Signatures that must not be believed.
const (
	OtherKey  Fault = "another key"      // rotated since its public key was read
	LongSalt  Fault = "longest salt"     // PSS with as much salt as fits
	PKCS1     Fault = "PKCS #1 v1.5"     // instead of PSS
	Truncated Fault = "truncated digest" // signs the first 5 bytes of it
)

// A failure is an error as the service writes it.
type failure struct {
	status  int
	code    string
	message string // %s: the operation, %[2]s: the key
}

var failures = map[Fault]*failure{
	Throttled:    {400, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."},
	Expired:      {400, "ExpiredTokenException", "The security token included in the request is expired"},
	Unrecognized: {400, "UnrecognizedClientException", "The security token included in the request is invalid."},
	Skewed: {400, "InvalidSignatureException",
		"Signature expired: 20200101T000000Z is now earlier than 20261122T000000Z (20261122T000500Z - 5 min.)"},
	Internal:    {500, "KMSInternalException", "The request was rejected because an internal exception occurred. The request can be retried."},
	Unavailable: {500, "KeyUnavailableException", "The request was rejected because the specified KMS key was not available."},
	Denied: {400, "AccessDeniedException", "User: arn:aws:iam::" + Account + ":user/release is not authorized to perform: kms:%s " +
		"on resource: %[2]s because no identity-based policy allows the kms:%[1]s action"},
}

const requestID = "b0c3a6f2-0000-4000-8000-c0ffee000001"

func refuse(w http.ResponseWriter, f *failure) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", requestID)
	w.WriteHeader(f.status)
	member := "message"
	if f.code == "AccessDeniedException" {
		member = "Message" // of IAM, which stands before the service
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": f.code, member: f.message})
}

// about puts the operation and the key into the message of a failure that names them.
func (f *failure) about(op, arn string) *failure {
	if !strings.Contains(f.message, "%") {
		return f
	}
	return &failure{f.status, f.code, fmt.Sprintf(f.message, op, arn)}
}

// breaks acts out the faults for which no key is needed.
func (s *Server) breaks(w http.ResponseWriter, r *http.Request, fault Fault) bool {
	switch fault {
	case Silence:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	case Cut:
		hangUp(w)
	case Gateway:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "<html><body>502 Bad Gateway</body></html>")
	case Busy:
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, "<html><body>429 Too Many Requests</body></html>")
	case Page:
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html><body>Welcome to the hotel. Please log in.</body></html>")
	case Huge:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		io.WriteString(w, `{"KeyId":"`)
		for range 100 {
			if _, err := io.WriteString(w, strings.Repeat("a", 1<<20)); err != nil {
				break
			}
		}
		io.WriteString(w, `"}`)
	default:
		return false
	}
	return true
}

// reset has what was written arrive, and then resets the connection, as a proxy or a firewall that restarts does.
func reset(w http.ResponseWriter) {
	time.Sleep(100 * time.Millisecond)
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// hangUp closes the connection. What was written is sent before.
func hangUp(w http.ResponseWriter) {
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_ = buffered.Flush()
}
