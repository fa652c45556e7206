package notationplugin

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	_ "github.com/notaryproject/notation-core-go/signature/jws"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
)

const payloadType = "application/vnd.cncf.notary.payload.v1+json"

var envelopeTypes = []string{"application/jose+json", "application/cose"}

func payload() []byte {
	return []byte(`{"targetArtifact":{"digest":"sha256:` + strings.Repeat("0", 64) + `","mediaType":"application/vnd.oci.image.manifest.v1+json","size":7}}`)
}

func (s *stage) envelopes(t *testing.T, fault string) kms.EnvelopeSigner {
	t.Helper()
	k := s.opened(t, kms.Options{Config: s.config.With("capabilities", "ENVELOPE").With("fault", fault)})
	e, ok := k.(kms.EnvelopeSigner)
	if !ok {
		t.Fatalf("it is a %T", k)
	}
	return e
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "RSA-2048"} {
		s := newStage(t, algorithm)
		k := s.envelopes(t, "")
		if k.Public() != nil {
			t.Errorf("its public key is %v, and nobody told it", k.Public())
		}
		for _, kind := range envelopeTypes {
			a, err := k.SignEnvelope(t.Context(), kms.EnvelopeRequest{Payload: payload(), PayloadType: payloadType, EnvelopeType: kind, Expiry: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			e, err := signature.ParseEnvelope(kind, a.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			c, err := e.Verify()
			if err != nil {
				t.Fatal(err)
			}
			if string(c.Payload.Content) != string(payload()) || c.Payload.ContentType != payloadType {
				t.Errorf("%s: signed %s of %s", kind, c.Payload.Content, c.Payload.ContentType)
			}
			if left := time.Until(c.SignerInfo.SignedAttributes.Expiry); left < 50*time.Minute || left > time.Hour {
				t.Errorf("%s: expires in %s", kind, left)
			}
			if !maps.Equal(a.Annotations, map[string]string{"example.plugin/request": "7"}) {
				t.Errorf("%s: annotations %v", kind, a.Annotations)
			}
		}
		if n, all := s.Calls("generate-envelope"), s.Calls(""); n != 2 || all != 3 {
			t.Errorf("%d envelopes in %d processes, want 2 in 3", n, all)
		}
	}
}

// TestEnvelopeKey: it signs nothing by itself, and says what it is.
func TestEnvelopeKey(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	k := s.envelopes(t, "")
	a, err := kms.AlgorithmOf(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(t.Context(), []byte("message"), a.SignerOpts())
	wantError(t, err, kms.CodeOptions, "the plugin makes whole envelopes")
	metered, _ := kms.Metered(k)
	for _, k := range []kms.Key{k, metered} {
		if id := k.(kms.Identifier).ID(); id != testURI {
			t.Errorf("ID is %s", id)
		}
		if d := kms.Describe(k); d.Service != "notation plugin test" {
			t.Errorf("it describes itself as %+v", d)
		}
	}
	_, err = k.SignEnvelope(t.Context(), kms.EnvelopeRequest{Payload: payload(), PayloadType: payloadType, EnvelopeType: envelopeTypes[0], Expiry: time.Millisecond})
	wantError(t, err, kms.CodeOptions, "whole seconds")
	known := s.opened(t, kms.Options{Leaf: s.chain[0].PublicKey, Config: s.config.With("capabilities", "ENVELOPE")})
	if !kms.SameKey(known.Public(), s.chain[0].PublicKey) {
		t.Errorf("its public key is not the one that it was told")
	}
	weak, _ := certtest.ChainOf(1, "P-224")
	_, err = s.open(t.Context(), mustURI(t, testURI), kms.Options{Leaf: weak.Public(), Config: s.config.With("capabilities", "ENVELOPE")})
	wantError(t, err, kms.CodeAlgorithm, "P-224")
}

// TestBoth: a plugin that does both makes signatures, so that the envelope is ours.
func TestBoth(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	k := s.opened(t, kms.Options{Config: s.config.With("capabilities", "ENVELOPE,RAW")})
	if _, ok := k.(kms.EnvelopeSigner); ok {
		t.Error("it makes envelopes")
	}
	if err := signOnce(t.Context(), k); err != nil {
		t.Error(err)
	}
}

func TestEnvelopeFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault, code, says string
		calls             int
	}{
		{"crash", kms.CodePlugin, "plugin test: generate-envelope: it ended with exit status 3", 1},
		{"huge", kms.CodePlugin, "it wrote more than 16 MiB", 1},
		{"garbage", kms.CodePlugin, "its answer is no JSON object", 1},
		{"set=signatureEnvelopeType=application/cose", kms.CodePlugin, `it made an envelope of the type "application/cose", not "application/jose+json"`, 1},
		{"without=signatureEnvelopeType", kms.CodePlugin, "its answer has no signatureEnvelopeType", 1},
		{"without=signatureEnvelope", kms.CodePlugin, "its answer has no signatureEnvelope", 1},
		{"set=signatureEnvelope=", kms.CodePlugin, "its answer has an empty signatureEnvelope", 1},
		{"set=signatureEnvelope={}", kms.CodePlugin, "a signatureEnvelope that is no base64", 1},
		{"envelope-long", kms.CodePlugin, "its envelope has 1048577 bytes, more than 1048576", 1},
		{"set=annotations=x", kms.CodePlugin, "its answer has a annotations of another type", 1},
		{"annotations", kms.CodePlugin, "an annotation without a name", 1},
		{"annotations-long", kms.CodePlugin, "its annotations have 66561 bytes", 1},
		{"error=ACCESS_DENIED", kms.CodeDenied, "ACCESS_DENIED", 1},
		{"error=TIMEOUT", kms.CodeUnreachable, "TIMEOUT", 3},
	} {
		t.Run(strings.ReplaceAll(test.fault, "/", " "), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "P-256")
			command := "" // a slash in a fault's value is no command's
			if strings.Contains(test.fault, "/") {
				command = "generate-envelope/"
			}
			k, calls := kms.Metered(s.envelopes(t, command+test.fault))
			_, err := k.(kms.EnvelopeSigner).SignEnvelope(t.Context(), kms.EnvelopeRequest{Payload: payload(), PayloadType: payloadType, EnvelopeType: envelopeTypes[0]})
			wantError(t, err, test.code, "signing with "+testURI, test.says)
			if n := s.Calls("generate-envelope"); n != test.calls || calls.Load() != int64(test.calls) {
				t.Errorf("%d calls, %d counted, want %d", n, calls.Load(), test.calls)
			}
		})
	}
}

func TestEnvelopeThrottled(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	k := s.opened(t, kms.Options{Config: s.config.With("capabilities", "ENVELOPE").With("fault", "error=THROTTLED").With("times", "2")})
	metered, calls := kms.Metered(k)
	_, err := metered.(kms.EnvelopeSigner).SignEnvelope(t.Context(), kms.EnvelopeRequest{Payload: payload(), PayloadType: payloadType, EnvelopeType: envelopeTypes[1]})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Calls("generate-envelope"); n != 3 || calls.Load() != 3 {
		t.Errorf("%d calls, %d counted, want 3", n, calls.Load())
	}
}

// TestEnvelopeWire: the request as the specification spells it; what is not given is not there.
func TestEnvelopeWire(t *testing.T) {
	t.Parallel()
	p := &plugin{id: "key", config: nil}
	for expiry, want := range map[int64]string{
		0:    `{"contractVersion":"1.0","keyId":"key","payload":"e30=","payloadType":"t","signatureEnvelopeType":"e"}`,
		3600: `{"contractVersion":"1.0","keyId":"key","expiryDurationInSeconds":3600,"payload":"e30=","payloadType":"t","signatureEnvelopeType":"e"}`,
	} {
		b, err := json.Marshal(envelopeRequest{p.keyRequest(), expiry, []byte("{}"), "t", "e"})
		if err != nil || string(b) != want {
			t.Errorf("%s, %v\nwant %s", b, err, want)
		}
	}
	b, err := json.Marshal(signatureRequest{p.keyRequest(), "EC-256", hashes["EC-256"].String(), []byte{}})
	if want := `{"contractVersion":"1.0","keyId":"key","keySpec":"EC-256","hashAlgorithm":"SHA-256","payload":""}`; err != nil || string(b) != want {
		t.Errorf("%s, %v\nwant %s", b, err, want)
	}
}

// TestJobs: however many signatures are wanted, no more processes run at once than a plugin can bear.
func TestJobs(t *testing.T) {
	t.Parallel()
	const latency = 300 * time.Millisecond
	s := newStage(t, "P-256")
	slow := s.config.With("latency", latency.String())
	raw := s.opened(t, kms.Options{Config: slow, Leaf: s.chain[0].PublicKey})
	whole := s.opened(t, kms.Options{Config: slow.With("capabilities", "ENVELOPE")}).(kms.EnvelopeSigner)
	for name, sign := range map[string]func() error{
		"signatures": func() error { return signOnce(t.Context(), raw) },
		"envelopes": func() error {
			_, err := whole.SignEnvelope(t.Context(), kms.EnvelopeRequest{Payload: payload(), PayloadType: payloadType, EnvelopeType: envelopeTypes[0]})
			return err
		},
	} {
		begun := time.Now()
		var wg sync.WaitGroup
		for range 2*jobs + 1 {
			wg.Go(func() {
				if err := sign(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		took := time.Since(begun)
		if took < 3*latency {
			t.Errorf("%s: %d in %s: more than %d at once", name, 2*jobs+1, took, jobs)
		}
		if took > jobs*latency {
			t.Errorf("%s: %d in %s: one after the other", name, 2*jobs+1, took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := whole.SignEnvelope(ctx, kms.EnvelopeRequest{Payload: payload(), PayloadType: payloadType, EnvelopeType: envelopeTypes[0]}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
