package envelope_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

const someDigest = "sha256:4f0c6f5bb1d7a3e0f0a6c1b2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f60"

func made(t testing.TB, f envelope.Format, chain certchain.Chain, key crypto.Signer) *envelope.Envelope {
	t.Helper()
	e, err := envelope.Sign(t.Context(), f, envelope.Payload{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: someDigest, Size: 7},
		kmstest.Key(key), chain, envelope.Options{SigningTime: time.Now(), Agent: "imprint/test"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func content(t testing.TB, e *envelope.Envelope) envelope.Content {
	t.Helper()
	c, err := e.Verify()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A token is put in, exchanged, and carried by an exchange of the chain; everything else stays, and it is the same signature.
func TestWithTimestamp(t *testing.T) {
	t.Parallel()
	tsa := tsatest.New(tsatest.Options{})
	root := certtest.Root("root")
	ca := root.Intermediate("ca")
	for _, f := range []envelope.Format{envelope.JWS, envelope.COSE} {
		key := certtest.Key("P-256")
		bare := made(t, f, ca.Chain(ca.Leaf(key.Public(), "release")), key)
		was := content(t, bare)
		last := bare
		for i := range 3 {
			token := tsa.Token(was.Signature, time.Now().Add(time.Duration(-i)*time.Hour))
			next, err := last.WithTimestamp(token)
			if err != nil {
				t.Fatal(err)
			}
			is := content(t, next)
			if !bytes.Equal(is.Timestamp, token) || is.CoreID() != was.CoreID() || !is.Chain.Equal(was.Chain) || is.Agent != was.Agent ||
				!bytes.Equal(is.Protected, was.Protected) || !bytes.Equal(is.Signed, was.Signed) || !bytes.Equal(is.Signature, was.Signature) {
				t.Errorf("%s: %d: something else changed", f, i)
			}
			if again, err := last.WithTimestamp(token); err != nil || !bytes.Equal(again.Bytes(), next.Bytes()) {
				t.Errorf("%s: %d: not deterministic: %v", f, i, err)
			}
			if same, err := next.WithTimestamp(token); err != nil || same != next {
				t.Errorf("%s: %d: the same token made another envelope: %v", f, i, err)
			}
			last = next
		}
		// In the one order or the other, the same bytes: two machines that renew both write one signature.
		renewed := certchain.Chain(root.IntermediateWith(ca.Key, "ca").Chain(was.Chain.Leaf()))
		token := tsa.Token(was.Signature, time.Now())
		a, err := bare.WithChain(renewed)
		if err != nil {
			t.Fatal(err)
		}
		if a, err = a.WithTimestamp(token); err != nil {
			t.Fatal(err)
		}
		b, err := bare.WithTimestamp(token)
		if err != nil {
			t.Fatal(err)
		}
		if b, err = b.WithChain(renewed); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: the order of exchanges shows", f)
		}
	}
}

// What stands around is carried: odd spacing and unknown members, and maps that grow past what their head can hold.
func TestWithTimestampVerbatim(t *testing.T) {
	t.Parallel()
	tsa := tsatest.New(tsatest.Options{})
	key := certtest.Key("P-256")
	e := made(t, envelope.JWS, certchain.Chain{certtest.SelfSigned(key, "self")}, key)
	odd := strings.Replace(string(e.Bytes()), `"header":{`, "\"header\" :\n{ \"kid\" : \"1\",\t\"com.example.a\":{\"b\":[1.50]} , ", 1)
	odd = strings.Replace(odd, `]`, "] \n", 1)
	parsed, err := envelope.Parse(string(envelope.JWS), []byte(odd))
	if err != nil {
		t.Fatal(err)
	}
	token := tsa.Token(content(t, e).Signature, time.Now())
	stamped, err := parsed.WithTimestamp(token)
	if err != nil {
		t.Fatal(err)
	}
	encoded, _ := json.Marshal(token)
	member := `,"io.cncf.notary.timestampSignature":` + string(encoded)
	if got := strings.Replace(string(stamped.Bytes()), member, "", 1); got != odd || len(stamped.Bytes()) != len(odd)+len(member) {
		t.Errorf("carried as\n%.200s", got)
	}
}

func TestWithTimestampRefuses(t *testing.T) {
	t.Parallel()
	tsa := tsatest.New(tsatest.Options{})
	key := certtest.Key("P-256")
	e := made(t, envelope.COSE, certchain.Chain{certtest.SelfSigned(key, "self")}, key)
	good := tsa.Token(content(t, e).Signature, time.Now())
	for name, token := range map[string][]byte{
		"none":                             nil,
		"garbage":                          []byte("token"),
		"X11 of another signature":         tsa.Token([]byte("other"), time.Now()),
		"X11 over the payload":             tsa.Token(content(t, e).Signed, time.Now()),
		"cut short":                        good[:len(good)-3],
		"too long":                         append(bytes.Clone(good), make([]byte, envelope.MaxTimestamp)...),
		"imprint made with a broken SHA-1": tsatest.New(tsatest.Options{Lie: tsatest.SHA1Imprint}).Token(content(t, e).Signature, time.Now()),
	} {
		got, err := e.WithTimestamp(token)
		var coded *envelope.Error
		if got != nil || !errors.As(err, &coded) || coded.Reason() != "timestamp-malformed" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Which authority a token is of, and whether it held when it says it was made.
func TestVerifyTimestamp(t *testing.T) {
	t.Parallel()
	sig := []byte("a primitive signature")
	now := time.Now()
	tsa := tsatest.New(tsatest.Options{Accuracy: 2 * time.Second})
	short := tsatest.New(tsatest.Options{Edits: []certtest.Edit{certtest.Valid(now.Add(-48*time.Hour), now.Add(-24*time.Hour))}})
	wrong := func(l tsatest.Lie) *tsatest.Authority { return tsatest.New(tsatest.Options{Lie: l}) }
	for name, c := range map[string]struct {
		by    *tsatest.Authority
		at    time.Time
		over  []byte
		roots *tsatest.Authority
		code  string
	}{
		"good":                                    {tsa, now, sig, tsa, ""},
		"the authority has ended since":           {short, now.Add(-36 * time.Hour), sig, short, ""},
		"after the authority ended":               {short, now.Add(-time.Hour), sig, short, "timestamp-untrusted"},
		"before it began":                         {short, now.Add(-72 * time.Hour), sig, short, "timestamp-untrusted"},
		"below another root":                      {tsa, now, sig, short, "timestamp-untrusted"},
		"no roots":                                {tsa, now, sig, nil, "timestamp-untrusted"},
		"X11 over something else":                 {tsa, now, []byte("payload"), tsa, "timestamp-malformed"},
		"A20 broken signature":                    {wrong(tsatest.BrokenSign), now, sig, nil, "timestamp-untrusted"},
		"A20 message digest of something else":    {wrong(tsatest.BrokenDigest), now, sig, nil, "timestamp-untrusted"},
		"A20 names another certificate":           {wrong(tsatest.OtherSigner), now, sig, nil, "timestamp-untrusted"},
		"A20 without its certificates":            {wrong(tsatest.NoCertificates), now, sig, nil, "timestamp-untrusted"},
		"A20 imprint with SHA-1":                  {wrong(tsatest.SHA1Imprint), now, sig, nil, "timestamp-malformed"},
		"A20 an imprint of something else inside": {wrong(tsatest.WrongImprint), now, sig, nil, "timestamp-malformed"},
	} {
		if c.roots == nil && name != "no roots" {
			c.roots = c.by
		}
		token := c.by.Token(c.over, c.at)
		var got envelope.Stamp
		var err error
		if c.roots == nil {
			got, err = envelope.VerifyTimestamp(token, sig, nil)
		} else {
			got, err = envelope.VerifyTimestamp(token, sig, c.roots.Roots())
		}
		var coded *envelope.Error
		errors.As(err, &coded)
		switch {
		case c.code == "" && err != nil, c.code != "" && (coded == nil || coded.Reason() != c.code):
			t.Errorf("%s: %v", name, err)
		case c.code == "timestamp-untrusted" && !errors.Is(err, envelope.ErrTimestamp):
			t.Errorf("%s: %v is no ErrTimestamp", name, err)
		case c.code == "" && (!got.At.Equal(c.at.Truncate(time.Second)) || !got.From.Equal(got.At.Add(-got.Accuracy)) || !got.To.Equal(got.At.Add(got.Accuracy)) || !got.Chain.Equal(c.by.Chain())):
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, err := (envelope.Content{Signature: sig}).VerifyTimestamp(tsa.Roots()); err == nil {
		t.Error("nothing was accepted as a timestamp")
	}
}

func TestTimestampCertificates(t *testing.T) {
	t.Parallel()
	tsa := tsatest.New(tsatest.Options{})
	sig := []byte("a primitive signature")
	certs := envelope.Content{Signature: sig, Timestamp: tsa.Token(sig, time.Now())}.TimestampCertificates()
	if len(certs) != 2 || !certs[0].Equal(tsa.Certificate) || !certs[1].Equal(tsa.CA.Certificate) {
		t.Errorf("%d certificates", len(certs))
	}
	for name, token := range map[string][]byte{"none": nil, "garbage": []byte("x"), "no certificates": tsatest.New(tsatest.Options{Lie: tsatest.NoCertificates}).Token(sig, time.Now())} {
		if certs := (envelope.Content{Signature: sig, Timestamp: token}).TimestampCertificates(); certs != nil {
			t.Errorf("%s: %d certificates", name, len(certs))
		}
	}
}
