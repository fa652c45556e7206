// Package tsatest is a time-stamping authority (RFC 3161) in this process, for tests, benchmarks and the demo: one that works, and one
// that lies in every way that a client must notice. Its functions panic on what cannot happen.
package tsatest

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// A Lie is what an authority does wrong.
type Lie string

const (
	Honest         Lie = ""
	WrongNonce     Lie = "wrong nonce"
	NoNonce        Lie = "no nonce"
	NoCertificates Lie = "no certificates in the token"
	SHA1Imprint    Lie = "SHA-1 imprint"
	WrongImprint   Lie = "imprint of something else"
	BrokenSign     Lie = "broken signature"
	BrokenDigest   Lie = "message digest of something else"
	OtherSigner    Lie = "names another certificate"
	Rejected       Lie = "status rejection"
	Waiting        Lie = "status waiting"
	GrantedEmpty   Lie = "granted without a token"
	HTML           Lie = "200 with HTML"
	HTMLAsReply    Lie = "200 with HTML said to be a reply"
	Status500      Lie = "500"
	Status206      Lie = "206"
	Huge           Lie = "100 MB"
	Slow           Lie = "one byte now and then"
	Hangs          Lie = "no answer"
	Redirects      Lie = "redirect" // to Options.Redirect
	Garbage        Lie = "garbage"
	Trailing       Lie = "bytes behind the answer"
)

// Options of [New]. The zero value is an honest authority.
type Options struct {
	Name     string           // common name; "tsa"
	Now      func() time.Time // what its clock shows; time.Now
	Accuracy time.Duration    // of its tokens; 0: none is said
	Lie      Lie
	Redirect string          // for Redirects
	Edits    []certtest.Edit // of the certificate that signs tokens
	Root     *certtest.Authority
	CA       *certtest.Authority // that issues it; one below Root
	// BringRoot puts the root into tokens, as some authorities do.
	BringRoot bool
}

// An Authority issues time-stamp tokens.
type Authority struct {
	Certificate *x509.Certificate   // which signs tokens
	Root        *certtest.Authority // what verifiers trust
	CA          *certtest.Authority
	o           Options
	key         crypto.Signer
	serial      atomic.Int64

	mu       sync.Mutex
	requests int
	server   *httptest.Server
	done     chan struct{}
}

// timeStamping is the extended key usage of RFC 3161, 2.3: critical, and the only one.
var timeStamping = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
	Value: must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))}

// New makes an authority below a root and an intermediate of its own. It listens nowhere before [Authority.Start].
func New(o Options) *Authority {
	if o.Name == "" {
		o.Name = "tsa"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Authority{o: o, key: certtest.Key("P-256"), Root: o.Root, CA: o.CA, done: make(chan struct{})}
	if a.Root == nil {
		a.Root = certtest.Root(o.Name+" root", certtest.Valid(time.Now().AddDate(-10, 0, 0), time.Now().AddDate(10, 0, 0)))
	}
	if a.CA == nil {
		a.CA = a.Root.Intermediate(o.Name+" ca", certtest.Valid(time.Now().AddDate(-9, 0, 0), time.Now().AddDate(9, 0, 0)))
	}
	edits := append([]certtest.Edit{certtest.Valid(time.Now().AddDate(-8, 0, 0), time.Now().AddDate(8, 0, 0)), func(c *x509.Certificate) {
		c.ExtKeyUsage = nil
		c.ExtraExtensions = []pkix.Extension{timeStamping}
	}}, o.Edits...)
	a.Certificate = a.CA.Leaf(a.key.Public(), o.Name, edits...)
	return a
}

// Chain is the authority's chain, its own certificate first, the root last.
func (a *Authority) Chain() []*x509.Certificate { return a.CA.Chain(a.Certificate) }

// Roots are what a verifier trusts.
func (a *Authority) Roots() []*x509.Certificate { return []*x509.Certificate{a.Root.Certificate} }

// Token countersigns a primitive signature at a time, without asking anybody.
func (a *Authority) Token(signature []byte, at time.Time) []byte {
	hash := sha256.Sum256(signature)
	return a.token(imprint{pkix.AlgorithmIdentifier{Algorithm: oidSHA256}, hash[:]}, at, nil)
}

func (a *Authority) token(im imprint, at time.Time, nonce *big.Int) []byte {
	var o shape
	switch a.o.Lie {
	case NoCertificates:
		o.noCertificates = true
	case BrokenSign:
		o.brokenSignature = true
	case BrokenDigest:
		o.brokenDigest = true
	case OtherSigner:
		o.nameOther = a.CA.Certificate
	case WrongNonce:
		if nonce != nil {
			nonce = new(big.Int).Add(nonce, big.NewInt(1))
		}
	case NoNonce:
		nonce = nil
	case WrongImprint:
		hash := sha256.Sum256([]byte("something else"))
		im = imprint{pkix.AlgorithmIdentifier{Algorithm: oidSHA256}, hash[:]}
	case SHA1Imprint:
		hash := sha1.Sum(im.Hash)
		im = imprint{pkix.AlgorithmIdentifier{Algorithm: oidSHA1}, hash[:]}
	}
	return a.signedData(must(asn1.Marshal(tstInfo{1, oidPolicy, im, big.NewInt(a.serial.Add(1)), at.UTC().Truncate(time.Second), accuracy(a.o.Accuracy), nonce})), o)
}

// Start serves the authority over HTTP on a loopback port and returns its URL. Stop ends it.
func (a *Authority) Start() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server == nil {
		a.server = httptest.NewServer(a)
	}
	return a.server.URL
}

// Stop stops serving, answers under way too.
func (a *Authority) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil {
		close(a.done)
		a.server.CloseClientConnections()
		a.server.Close()
		a.server = nil
		a.done = make(chan struct{})
	}
}

// Requests counts what was asked over HTTP.
func (a *Authority) Requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// ServeHTTP answers as RFC 3161, 3.4 has it, or lies.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests++
	done := a.done
	a.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	const reply = "application/timestamp-reply"
	switch a.o.Lie {
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>welcome</html>")
		return
	case HTMLAsReply:
		w.Header().Set("Content-Type", reply)
		io.WriteString(w, "<html>welcome</html>")
		return
	case Status500:
		http.Error(w, "down", http.StatusInternalServerError)
		return
	case Redirects:
		http.Redirect(w, r, a.o.Redirect, http.StatusTemporaryRedirect)
		return
	case Huge:
		w.Header().Set("Content-Type", reply)
		chunk := bytes.Repeat([]byte{0x30}, 1<<16)
		for range 1600 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		return
	case Garbage:
		w.Header().Set("Content-Type", reply)
		_, _ = w.Write([]byte{0x30, 0x82, 0xff, 0xff, 1, 2, 3})
		return
	case Hangs:
		select {
		case <-done:
		case <-r.Context().Done():
		}
		return
	}
	answer := a.answer(body)
	w.Header().Set("Content-Type", reply)
	switch a.o.Lie {
	case Status206:
		w.WriteHeader(http.StatusPartialContent)
	case Trailing:
		answer = append(answer, "more"...)
	case Slow:
		for _, b := range answer {
			if _, err := w.Write([]byte{b}); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-done:
				return
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
		return
	}
	_, _ = w.Write(answer)
}

// answer is the DER of a response: status, and the token if it is granted.
func (a *Authority) answer(request []byte) []byte {
	type status struct{ Status int }
	var q tspclient.Request
	if err := q.UnmarshalBinary(request); err != nil {
		return must(asn1.Marshal(struct{ Status status }{status{2}}))
	}
	switch a.o.Lie {
	case Rejected:
		return must(asn1.Marshal(struct{ Status status }{status{2}}))
	case Waiting:
		return must(asn1.Marshal(struct{ Status status }{status{3}}))
	case GrantedEmpty:
		return must(asn1.Marshal(struct{ Status status }{status{0}}))
	}
	token := a.token(imprint{q.MessageImprint.HashAlgorithm, q.MessageImprint.HashedMessage}, a.o.Now(), q.Nonce)
	return must(asn1.Marshal(struct {
		Status status
		Token  asn1.RawValue
	}{status{0}, asn1.RawValue{FullBytes: token}}))
}
