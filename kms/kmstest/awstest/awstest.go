// Package awstest is AWS KMS as a program sees it over the wire: JSON 1.1, real keys, the service's own statuses, error codes
// and texts, and the faults that a test asks for. A program is led to it by AWS_ENDPOINT_URL_KMS.
package awstest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the emulator takes for granted: its account, the region of keys that name none, and the credentials that it knows.
const (
	Account         = "111122223333"
	Region          = "eu-central-1"
	AccessKeyID     = "AKIAIOSFODNN7EXAMPLE"
	SecretAccessKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// A Server is one endpoint for all regions.
type Server struct {
	URL string

	http *httptest.Server
	done chan struct{}

	mu       sync.Mutex
	keys     []*Key
	aliases  map[string]*Key // by ARN
	calls    map[string]int
	agents   []string
	fault    func(op string, n int) Fault
	latency  time.Duration
	inFlight int
	peak     int
	others   map[string]crypto.Signer // by key spec
}

// A Key is a key of the service.
type Key struct {
	ARN        string
	Region     string
	Spec       string   // KeySpec
	Usage      string   // KeyUsage
	Algorithms []string // SigningAlgorithms
	State      State
	Public     []byte // DER
	Signer     crypto.Signer
}

// A State is a key's.
type State string

// The states that matter.
const (
	Enabled         State = ""
	Disabled        State = "disabled"
	PendingDeletion State = "pending deletion"
)

// New starts the service without any key. It ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{aliases: map[string]*Key{}, calls: map[string]int{}, others: map[string]crypto.Signer{}, done: make(chan struct{})}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	t.Cleanup(func() {
		close(s.done)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// Environ is what leads a program of AWS to the service, and to nothing outside the test.
func (s *Server) Environ() []string {
	return []string{
		"AWS_ENDPOINT_URL_KMS=" + s.URL, "AWS_REGION=" + Region, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + SecretAccessKey,
	}
}

// AddKey makes a key of signer, gives it the alias alias/name, and returns its ARN. The edits come last.
func (s *Server) AddKey(name string, signer crypto.Signer, edits ...func(*Key)) string {
	k := &Key{Region: Region, Usage: "SIGN_VERIFY", Signer: signer}
	if signer != nil {
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			panic(fmt.Errorf("awstest: key %s: %w", name, err))
		}
		k.Public = der
		k.Spec, k.Algorithms = specOf(signer.Public())
	}
	for _, edit := range edits {
		edit(k)
	}
	id := make([]byte, 16)
	rand.Read(id)
	k.ARN = fmt.Sprintf("arn:aws:kms:%s:%s:key/%x-%x-%x-%x-%x", k.Region, Account, id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, k)
	s.aliases[aliasARN(k.Region, name)] = k
	return k.ARN
}

// MoveAlias makes alias/name mean the key of that ARN, as rotation does it.
func (s *Server) MoveAlias(name, arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.ARN == arn {
			s.aliases[aliasARN(k.Region, name)] = k
			return
		}
	}
	panic("awstest: no key " + arn)
}

func aliasARN(region, name string) string {
	return "arn:aws:kms:" + region + ":" + Account + ":alias/" + name
}

// Fault has f decide of each call what goes wrong with it; n counts the calls of that operation from 1.
func (s *Server) Fault(f func(op string, n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Latency makes every answer take that long.
func (s *Server) Latency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// Calls counts the calls of an operation so far, as "Sign"; "" counts all.
func (s *Server) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op != "" {
		return s.calls[op]
	}
	n := 0
	for _, c := range s.calls {
		n += c
	}
	return n
}

// Peak is how many calls were being answered at once at most.
func (s *Server) Peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

// Agents lists the distinct User-Agent headers seen.
func (s *Server) Agents() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.agents)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if r.Method != http.MethodPost || r.URL.Path != "/" || !ok || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		refuse(w, &failure{400, "UnknownOperationException", ""})
		return
	}
	arrived := time.Now()
	fault, latency := s.enter(op, r.UserAgent())
	defer s.leave()
	// The body is read to its end even if it does not matter: only then does the server notice that its client has left.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		refuse(w, &failure{400, "SerializationException", ""})
		return
	}
	select {
	case <-time.After(latency - time.Since(arrived)):
	case <-r.Context().Done():
		return
	}
	if s.breaks(w, r, fault) {
		return
	}
	region, f := authorized(r)
	if f != nil {
		refuse(w, f)
		return
	}
	answer, f := s.answer(op, region, body, fault)
	if f != nil {
		refuse(w, f)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", requestID)
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	switch fault {
	case Lost:
		hangUp(w)
	case Torn, Reset:
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = w.Write(text[:len(text)/2])
		_ = http.NewResponseController(w).Flush()
		if fault == Reset {
			reset(w)
		} else {
			hangUp(w)
		}
	default:
		_, _ = w.Write(text)
	}
}

func (s *Server) enter(op, agent string) (Fault, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	s.inFlight++
	s.peak = max(s.peak, s.inFlight)
	if !slices.Contains(s.agents, agent) {
		s.agents = append(s.agents, agent)
	}
	if s.fault == nil {
		return None, s.latency
	}
	return s.fault(op, s.calls[op]), s.latency
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

// authorized reads the credential scope of Signature Version 4. The signature itself is the SDK's business.
func authorized(r *http.Request) (region string, f *failure) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", &failure{400, "MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	_, rest, ok := strings.Cut(header, "AWS4-HMAC-SHA256 Credential=")
	scope, _, _ := strings.Cut(rest, ",")
	parts := strings.Split(scope, "/")
	if !ok || len(parts) != 5 || parts[3] != "kms" || parts[4] != "aws4_request" {
		return "", &failure{400, "IncompleteSignatureException", "Authorization header requires 'Credential' parameter."}
	}
	if parts[0] != AccessKeyID {
		return "", failures[Unrecognized]
	}
	return parts[2], nil
}
