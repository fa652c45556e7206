package awskms_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/awskms"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
)

// first has the first n calls of Sign fail so, and no other call.
func first(n int, f awstest.Fault) func(string, int) awstest.Fault {
	return func(op string, i int) awstest.Fault {
		if op == "Sign" && i <= n {
			return f
		}
		return awstest.None
	}
}

const always = 1 << 30

func TestSigningFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault func(string, int) awstest.Fault
		key   string // "": P-256
		code  string // "": it signs
		calls int64
		takes time.Duration // at least
		says  []string
	}{
		"F31 throttled twice, then fine":  {fault: first(2, awstest.Throttled), calls: 3},
		"F31 throttled for ever":          {fault: first(always, awstest.Throttled), code: kms.CodeThrottled, calls: 8, says: []string{"ThrottlingException", "asked 8 times", "kms:Sign in eu-central-1"}},
		"F31 internal error, then fine":   {fault: first(1, awstest.Internal), calls: 2},
		"F31 internal error for ever":     {fault: first(always, awstest.Internal), code: kms.CodeService, calls: 8, says: []string{"KMSInternalException", "HTTP 500", "request b0c3a6f2"}},
		"F31 unavailable, then fine":      {fault: first(1, awstest.Unavailable), calls: 2},
		"F31 a proxy's 502, then fine":    {fault: first(1, awstest.Gateway), calls: 2},
		"F31 a proxy's 429, then fine":    {fault: first(1, awstest.Busy), calls: 2, takes: time.Second},
		"F31 a proxy's 429 for ever":      {fault: first(always, awstest.Busy), code: kms.CodeThrottled, calls: 8, says: []string{"answers with HTTP 429"}},
		"F31 silence":                     {fault: first(always, awstest.Silence), code: kms.CodeUnreachable, calls: 1, says: []string{"no answer within 13s", "AWS KMS in eu-central-1 at http://127.0.0.1"}},
		"F32 denied":                      {fault: first(always, awstest.Denied), code: kms.CodeDenied, calls: 1, says: []string{"allow kms:Sign on arn:aws:kms:eu-central-1:", "not authorized to perform: kms:Sign"}},
		"expired token":                   {fault: first(always, awstest.Expired), code: kms.CodeExpired, calls: 1, says: []string{"ExpiredTokenException", "`aws sso login`", "AWS_SESSION_TOKEN"}},
		"unknown access key":              {fault: first(always, awstest.Unrecognized), code: kms.CodeExpired, calls: 1, says: []string{"UnrecognizedClientException", "AWS_ACCESS_KEY_ID"}},
		"clock":                           {fault: first(always, awstest.Skewed), code: kms.CodeExpired, calls: 1, says: []string{"Signature expired", "clock"}},
		"F33 answer lost after signing":   {fault: first(1, awstest.Lost), calls: 2},
		"F33 answer broken after signing": {fault: first(1, awstest.Torn), calls: 2},
		"F33 answer reset after signing":  {fault: first(1, awstest.Reset), calls: 2},
		"F33 answer reset always":         {fault: first(always, awstest.Reset), code: kms.CodeUnreachable, calls: 3, says: []string{"broke within its answer"}},
		"F33 answer lost always":          {fault: first(always, awstest.Lost), code: kms.CodeUnreachable, calls: 3, says: []string{"asked 3 times", "EOF"}},
		"F33 answer broken always":        {fault: first(always, awstest.Torn), code: kms.CodeUnreachable, calls: 3, says: []string{"broke within its answer"}},
		"connection cut":                  {fault: first(1, awstest.Cut), calls: 2},
		"F34 another key":                 {fault: first(always, awstest.OtherKey), code: kms.CodeSignature, calls: 1, says: []string{"no signature of the key that was opened"}},
		"F34 another RSA key":             {fault: first(always, awstest.OtherKey), key: "RSA-2048", code: kms.CodeSignature, calls: 1},
		"A03 longest salt":                {fault: first(always, awstest.LongSalt), key: "RSA-2048", code: kms.CodeSignature, calls: 1, says: []string{"salt is not as long"}},
		"A02 PKCS #1 v1.5":                {fault: first(always, awstest.PKCS1), key: "RSA-2048", code: kms.CodeSignature, calls: 1, says: []string{"PKCS #1 v1.5"}},
		"truncated digest":                {fault: first(always, awstest.Truncated), code: kms.CodeSignature, calls: 1},
		"truncated digest with RSA":       {fault: first(always, awstest.Truncated), key: "RSA-2048", code: kms.CodeSignature, calls: 1},
		"a hotel's page":                  {fault: first(always, awstest.Page), code: kms.CodeService, calls: 1, says: []string{"gives an answer that cannot be read (HTTP 200): unexpected token"}},
		"100 MB":                          {fault: first(always, awstest.Huge), code: kms.CodeService, calls: 1, says: []string{"too long (262144 bytes"}},
		"connection cut twice":            {fault: first(2, awstest.Cut), calls: 3},
		"a proxy's 502 for ever":          {fault: first(always, awstest.Gateway), code: kms.CodeService, calls: 8, says: []string{"answers with HTTP 502"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := awstest.New(t)
			algorithm := tt.key
			if algorithm == "" {
				algorithm = "P-256"
			}
			s.AddKey("a", certtest.Key(algorithm))
			k := mustOpen(t, "awskms:///alias/a"+at(s))
			s.Fault(tt.fault)
			begun := time.Now()
			calls, err := sign(t, k)
			if took := time.Since(begun); took > 20*time.Second || took < tt.takes {
				t.Errorf("it took %v", took)
			}
			if calls != tt.calls || s.Calls("Sign") != int(calls) {
				t.Errorf("%d calls counted, %d seen, want %d: %v", calls, s.Calls("Sign"), tt.calls, err)
			}
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.code, append(tt.says, "signing with awskms:///arn:aws:kms:eu-central-1:")...)
		})
	}
}

// F32: what changes about a key after it was opened.
func TestF32StateChanges(t *testing.T) {
	t.Parallel()
	for state, says := range map[awstest.State][]string{
		awstest.Disabled:        {"DisabledException", "aws kms enable-key --region eu-central-1 --key-id arn:"},
		awstest.PendingDeletion: {"KMSInvalidStateException", "aws kms cancel-key-deletion --region eu-central-1 --key-id arn:"},
	} {
		s := awstest.New(t)
		var entry *awstest.Key
		s.AddKey("a", certtest.Key("P-256"), func(k *awstest.Key) { entry = k })
		k := mustOpen(t, "awskms:///alias/a"+at(s))
		entry.State = state
		calls, err := sign(t, k)
		if calls != 1 {
			t.Errorf("%s: %d calls", state, calls)
		}
		wantError(t, err, kms.CodeUnusable, says...)
	}
}

func TestOpeningFaults(t *testing.T) {
	t.Parallel()
	always := func(f awstest.Fault) func(string, int) awstest.Fault {
		return func(string, int) awstest.Fault { return f }
	}
	state := func(s awstest.State) func(*awstest.Key) { return func(k *awstest.Key) { k.State = s } }
	for name, tt := range map[string]struct {
		uri   string // "": awskms:///alias/a
		fault func(string, int) awstest.Fault
		edit  func(*awstest.Key)
		code  string
		calls int
		says  []string
	}{
		"F31 throttled for ever": {fault: always(awstest.Throttled), code: kms.CodeThrottled, calls: 8, says: []string{"kms:GetPublicKey in eu-central-1"}},
		"F32 denied":             {fault: always(awstest.Denied), code: kms.CodeDenied, calls: 1, says: []string{"allow kms:GetPublicKey, and kms:Sign to sign, on alias/a"}},
		"F32 disabled":           {edit: state(awstest.Disabled), code: kms.CodeUnusable, calls: 1, says: []string{"is disabled", "enable-key --region eu-central-1 --key-id alias/a"}},
		"F32 pending deletion":   {edit: state(awstest.PendingDeletion), code: kms.CodeUnusable, calls: 1, says: []string{"is pending deletion", "cancel-key-deletion"}},
		"expired token":          {fault: always(awstest.Expired), code: kms.CodeExpired, calls: 1, says: []string{"`aws sso login`"}},
		"wrong region":           {uri: "awskms:///alias/a?region=us-east-1", code: kms.CodeNotFound, calls: 1, says: []string{"no key alias/a in us-east-1", "check the name, the region (?region=)"}},
		"wrong alias":            {uri: "awskms:///alias/b", code: kms.CodeNotFound, calls: 1, says: []string{"no key alias/b in eu-central-1", "aws kms list-aliases --region eu-central-1"}},
		"wrong ID":               {uri: "awskms:///1234abcd-12ab-34cd-56ef-1234567890ab", code: kms.CodeNotFound, calls: 1, says: []string{"in eu-central-1", "does not exist"}},
		"silence":                {fault: always(awstest.Silence), code: kms.CodeUnreachable, calls: 1, says: []string{"no answer within 13s", "HTTPS_PROXY"}},
		"a hotel's page":         {fault: always(awstest.Page), code: kms.CodeService, calls: 1},
		"100 MB":                 {fault: always(awstest.Huge), code: kms.CodeService, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := awstest.New(t)
			s.AddKey("a", certtest.Key("P-256"), func(k *awstest.Key) {
				if tt.edit != nil {
					tt.edit(k)
				}
			})
			s.Fault(tt.fault)
			uri := tt.uri
			if uri == "" {
				uri = "awskms:///alias/a"
			}
			u, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			q.Set("endpoint", s.URL)
			u.RawQuery = q.Encode()
			begun := time.Now()
			_, err = open(t, u.String())
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			wantError(t, err, tt.code, append(tt.says, "opening key awskms:///")...)
			if n := s.Calls("GetPublicKey"); n != tt.calls || s.Calls("") != n {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
		})
	}
}

func TestOpeningRecovers(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	s.AddKey("a", certtest.Key("P-256"))
	faults := []awstest.Fault{awstest.Torn, awstest.Cut, awstest.Throttled, awstest.Gateway}
	s.Fault(func(_ string, n int) awstest.Fault {
		if n <= len(faults) {
			return faults[n-1]
		}
		return awstest.None
	})
	if _, err := open(t, "awskms:///alias/a"+at(s)); err != nil || s.Calls("GetPublicKey") != len(faults)+1 {
		t.Errorf("%v after %d calls", err, s.Calls("GetPublicKey"))
	}
}

// A dead endpoint costs seconds, not a minute: neither one that refuses nor one that says nothing, over TLS or not.
func TestDeadEndpoints(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		endpoint string
		most     time.Duration
		says     string
	}{
		"closed port":       {"http://" + listener(t, false), 5 * time.Second, "connection refused"},
		"silent":            {"http://" + listener(t, true), 15 * time.Second, "no answer within 13s"},
		"silent handshake":  {"https://" + listener(t, true), 15 * time.Second, "no answer within 13s"},
		"no TLS":            {"https://" + awstest.New(t).URL[len("http://"):], 5 * time.Second, "server gave HTTP response to HTTPS client"},
		"no such host":      {"https://kms.invalid", 15 * time.Second, "kms.invalid"},
		"host of no region": {"https://kms.eu-nowhere-9.amazonaws.invalid", 15 * time.Second, "eu-nowhere-9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			_, err := open(t, "awskms:///alias/a?endpoint="+url.QueryEscape(tt.endpoint))
			if took := time.Since(begun); took > tt.most {
				t.Errorf("it took %v", took)
			}
			wantError(t, err, kms.CodeUnreachable, tt.says, tt.endpoint, "AWS_ENDPOINT_URL_KMS")
		})
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	s.AddKey("a", certtest.Key("P-256"))
	k := mustOpen(t, "awskms:///alias/a"+at(s))
	s.Fault(first(always, awstest.Silence))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	a, _ := kms.AlgorithmOf(k.Public())
	if _, err := k.Sign(ctx, nil, a.SignerOpts()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A person who will not wait for a program that asks for something is not told that AWS does not answer.
func TestCancelledLogin(t *testing.T) {
	t.Parallel()
	p := profile(t, "credential_process = sleep 5")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := kms.Providers{"awskms": awskms.Open}.Open(ctx, "awskms:///alias/a?profile="+p, kms.Options{})
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	var e *kms.Error
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &e) {
		t.Error(err)
	}
}

// TestRedirect: AWS KMS never redirects, so nothing is signed and sent to where somebody in its place points.
func TestRedirect(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere)
			w.WriteHeader(status)
		}))
		_, err := open(t, "awskms:///alias/a?endpoint="+url.QueryEscape(server))
		wantError(t, err, kms.CodeService, fmt.Sprintf("HTTP %d", status))
	}
	if asked.Load() != 0 {
		t.Errorf("%d requests were sent on", asked.Load())
	}
}

// TestUnencrypted: that an endpoint is not spoken to in private is said, unless it is this machine.
func TestUnencrypted(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]int{
		"http://kms.invalid": 1, "http://192.0.2.1:4566": 1, "https://kms.invalid": 0, "http://127.0.0.1:1": 0, "http://localhost:1": 0, "http://[::1]:1": 0,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		var warned []string
		_, err := kms.Providers{"awskms": awskms.Open}.Open(ctx, "awskms:///alias/a?endpoint="+url.QueryEscape(endpoint),
			kms.Options{Warn: func(text string) { warned = append(warned, text) }})
		cancel()
		if err == nil || len(warned) != want || want == 1 && !strings.Contains(warned[0], endpoint) {
			t.Errorf("%s: %v, %v", endpoint, warned, err)
		}
	}
}

// TestRegion: a region becomes part of the host's name, wherever it comes from.
func TestRegion(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"evil.example/", "evil.example#", "a.b", "-a", "a:1"} {
		_, err := awskms.Open(t.Context(), &url.URL{Scheme: "awskms", Path: "/alias/a", RawQuery: url.Values{"region": {region}}.Encode()}, kms.Options{})
		wantError(t, err, kms.CodeURI, "is no AWS region")
	}
}
