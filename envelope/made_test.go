package envelope

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

func TestSignWith(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		for _, algorithm := range certtest.Algorithms {
			t.Run(f.Short()+" "+algorithm, func(t *testing.T) {
				t.Parallel()
				w := &writer{forger: newForger(3, algorithm)}
				at := signedAt()
				m, err := SignWith(t.Context(), f, askedPayload(), w, nil, Options{SigningTime: at.Add(time.Millisecond), Expiry: at.Add(time.Hour)})
				if err != nil {
					t.Fatal(err)
				}
				if want := must(askedPayload().encode()); len(w.asked) != 1 || !cmp.Equal(w.asked[0], kms.EnvelopeRequest{
					Payload: want, PayloadType: PayloadType, EnvelopeType: string(f), Expiry: time.Hour}) {
					t.Errorf("it was asked for %+v", w.asked)
				}
				c, err := judge(f, m.Envelope.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				if m.Plugin != "" || c.CoreID() == "" || c.CoreID() != m.Content.CoreID() || !c.Payload.Equal(askedPayload()) {
					t.Errorf("plugin %q, core ids %q and %q, payload %+v", m.Plugin, m.Content.CoreID(), c.CoreID(), c.Payload)
				}
				if _, err := m.Envelope.Verify(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestSignWithAccepts(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(d *dictation){
		"annotations of its own": func(d *dictation) {
			d.payload = strings.Replace(d.payload, `"build":"7"`, `"build":"7","com.example.job":"1"`, 1)
		},
		"payload written in another way": func(d *dictation) { d.payload = strings.Replace(d.payload, `"size":7`, `"size": 7 `, 1) },
		"fields that descriptors may have": func(d *dictation) {
			d.payload = strings.Replace(d.payload, `"size":7`, `"size":7,"artifactType":"a/b","urls":["https://a.example"],"platform":{"os":"linux"},"data":"e30="`, 1)
		},
		"extended attributes":          func(d *dictation) { d.more = append(d.more, extra{"com.example.job", "1", false}) },
		"its agent":                    func(d *dictation) { d.unprotected = map[string]any{attrAgent: "a plugin/1.0"} },
		"a signing authority":          func(d *dictation) { d.scheme = SchemeSigningAuthority },
		"a clock an hour ahead":        func(d *dictation) { d.signedAt, d.expiry = d.signedAt.Add(time.Hour), d.expiry.Add(time.Hour) },
		"a clock read twice":           func(d *dictation) { d.expiry = d.expiry.Add(time.Second) },
		"a verification plugin":        plugin,
		"a plugin without its version": func(d *dictation) { plugin(d); d.more = slices.Delete(d.more, 1, 2) },
	} {
		for _, f := range []Format{JWS, COSE} {
			t.Run(name+" "+f.Short(), func(t *testing.T) {
				t.Parallel()
				w := &writer{forger: newForger(2, "P-256"), edit: edit}
				at := signedAt()
				m, err := SignWith(t.Context(), f, askedPayload(), w, w.chain, Options{SigningTime: at, Expiry: at.Add(time.Hour)})
				if err != nil {
					t.Fatal(err)
				}
				_, verr := m.Envelope.Verify()
				_, perr := Parse(string(f), m.Envelope.Bytes())
				if strings.Contains(name, "plugin") {
					if m.Plugin != "com.amazonaws.signer.notation.plugin" {
						t.Errorf("the plugin is %q", m.Plugin)
					}
					// Nobody who judges it may take it for one without the plugin.
					wantReason(t, verr, codeCriticalUnknown)
					wantReason(t, perr, codeCriticalUnknown)
					_, cerr := m.Envelope.WithChain(w.chain)
					wantReason(t, cerr, codeCriticalUnknown)
					return
				}
				if m.Plugin != "" || verr != nil || perr != nil {
					t.Errorf("plugin %q, verify %v, parse %v", m.Plugin, verr, perr)
				}
			})
		}
	}
}

func TestSignWithRefuses(t *testing.T) {
	t.Parallel()
	other := newForger(2, "P-256")
	in := func(old, new string) func(d *dictation) {
		return func(d *dictation) {
			if !strings.Contains(d.payload, old) {
				panic("no " + old + " in " + d.payload)
			}
			d.payload = strings.Replace(d.payload, old, new, 1)
		}
	}
	with := func(name string, value any, critical bool) func(d *dictation) {
		return func(d *dictation) { d.more = append(d.more, extra{name, value, critical}) }
	}
	valid := func(from, to time.Duration) func(d *dictation) {
		return func(d *dictation) {
			key, chain := certtest.ChainOf(2, "P-256", certtest.Valid(d.signedAt.Add(from), d.signedAt.Add(to)))
			d.key, d.forger.chain = key, chain
		}
	}
	why := map[string]string{ // what the error says
		"a claim added":                  `io.imprint.claims" is missing or changed`,
		"a leaf that may do anything":    `allows anything`,
		"a timestamp that is none":       `timestamp: `,
		"annotation of imprint's added":  `adds the reserved annotation "io.imprint.more"`,
		"another content type":           `content type "application/json"`,
		"another digest":                 `another artifact`,
		"another key, its own chain":     `key than that of the chain given`,
		"another media type":             `another artifact`,
		"another size":                   `another artifact`,
		"chain expired":                  `(expired)`,
		"chain no longer when signed":    `(expired)`,
		"chain not valid when signed":    `(not-yet-valid)`,
		"chain not yet valid":            `(not-yet-valid)`,
		"expired":                        `it has expired at`,
		"longer":                         `it expires 1h0m3s after`,
		"member twice":                   `is there twice`,
		"metadata changed":               `"build" is missing or changed`,
		"metadata left out":              `"build" is missing or changed`,
		"no claims":                      `io.imprint.claims" is missing or changed`,
		"no expiry":                      `it has no expiry`,
		"no root":                        `(incomplete)`,
		"no signature":                   `signature does not match`,
		"plugin and a Notary attribute":  `unknown attribute "io.cncf.notary.other"`,
		"plugin and another digest":      `another artifact`,
		"plugin and another's signature": `signature does not match`,
		"plugin listed twice":            `twice`,
		"plugin that is a number":        `names no plugin`,
		"plugin that is not critical":    `is not critical`,
		"plugin with a line end":         `names no plugin`,
		"plugin without a name":          `names no plugin`,
		"plugin's version alone":         `is unknown`,
		"plugin's version no version":    `or no version`,
		"plugin's version not critical":  `is not critical`,
		"reserved annotation added":      `adds the reserved annotation "io.cncf.notary.x"`,
		"shorter":                        `it expires 59m57s after`,
		"signed by another key":          `signature does not match`,
		"signed in two days":             `it says that it was signed at`,
		"signed two days ago":            `it says that it was signed at`,
		"the same in capitals":           `adds the reserved annotation "IO.Imprint`,
		"unknown Notary attribute":       `unknown attribute "io.cncf.notary.other"`,
		"unknown critical attribute":     `"com.example.x" is unknown`,
		"unknown member beside it":       `only member`,
		"unknown member in the target":   `unknown member`,
		"unknown scheme":                 `unknown signing scheme`,
	}
	for name, edit := range map[string]func(d *dictation){
		"another digest":                in("9f86d081", "9f86d082"),
		"another size":                  in(`"size":7`, `"size":8`),
		"another media type":            in("image.manifest", "image.index"),
		"a claim added":                 in(`[\"1.4\"]`, `[\"1.4\",\"latest\"]`),
		"no claims":                     in(`"io.imprint.claims":"[\"1.4\"]"`, `"a":"b"`),
		"metadata changed":              in(`"build":"7"`, `"build":"8"`),
		"metadata left out":             in(`"build":"7",`, ``),
		"reserved annotation added":     in(`"build":"7"`, `"build":"7","io.cncf.notary.x":"1"`),
		"annotation of imprint's added": in(`"build":"7"`, `"build":"7","io.imprint.more":"1"`),
		"the same in capitals":          in(`"build":"7"`, `"build":"7","IO.Imprint.claims":"1"`),
		"unknown member in the target":  in(`"size":7`, `"size":7,"sizes":8`),
		"unknown member beside it":      func(d *dictation) { d.payload = strings.TrimSuffix(d.payload, "}") + `,"x":1}` },
		"member twice":                  in(`"size":7`, `"size":7,"size":7`),
		"another content type":          func(d *dictation) { d.contentType = "application/json" },
		"no expiry":                     func(d *dictation) { d.expiry = time.Time{} },
		"longer":                        func(d *dictation) { d.expiry = d.expiry.Add(3 * time.Second) },
		"shorter":                       func(d *dictation) { d.expiry = d.expiry.Add(-3 * time.Second) },
		"expired":                       func(d *dictation) { d.signedAt, d.expiry = d.signedAt.Add(-2*time.Hour), d.expiry.Add(-2*time.Hour) },
		"signed two days ago":           func(d *dictation) { d.signedAt = d.signedAt.Add(-48 * time.Hour) },
		"signed in two days":            func(d *dictation) { d.signedAt, d.expiry = d.signedAt.Add(48*time.Hour), d.expiry.Add(48*time.Hour) },
		"signed by another key":         func(d *dictation) { d.key = other.key },
		"another key, its own chain":    func(d *dictation) { d.forger = *other },
		"chain expired":                 valid(-2*time.Hour, -time.Hour),
		"chain not yet valid":           valid(time.Hour, 2*time.Hour),
		"chain not valid when signed": func(d *dictation) {
			valid(-time.Minute, time.Hour)(d)
			d.signedAt, d.expiry = d.signedAt.Add(-50*time.Minute), d.expiry.Add(-50*time.Minute)
		},
		"chain no longer when signed": func(d *dictation) {
			valid(-time.Hour, time.Minute)(d)
			d.signedAt, d.expiry = d.signedAt.Add(50*time.Minute), d.expiry.Add(50*time.Minute)
		},
		"no root":                        func(d *dictation) { d.forger.chain = d.forger.chain[:1] },
		"a leaf that may do anything":    nil, // below
		"unknown scheme":                 func(d *dictation) { d.scheme = "notary.x509.other" },
		"unknown critical attribute":     with("com.example.x", "1", true),
		"unknown Notary attribute":       with("io.cncf.notary.other", "1", false),
		"plugin that is not critical":    with(attrPlugin, "p", false),
		"plugin without a name":          with(attrPlugin, "", true),
		"plugin that is a number":        with(attrPlugin, 1, true),
		"plugin with a line end":         with(attrPlugin, "p\nq", true),
		"plugin listed twice":            func(d *dictation) { plugin(d); d.more = append(d.more, d.more[0]) },
		"plugin's version not critical":  func(d *dictation) { plugin(d); d.more[1].critical = false },
		"plugin's version no version":    func(d *dictation) { plugin(d); d.more[1].value = "new" },
		"plugin's version alone":         with(attrPluginVersion, "1.0.0", true),
		"plugin and a Notary attribute":  func(d *dictation) { plugin(d); with("io.cncf.notary.other", "1", true)(d) },
		"plugin and another's signature": func(d *dictation) { plugin(d); d.key = other.key },
		"plugin and another digest":      func(d *dictation) { plugin(d); in("9f86d081", "9f86d082")(d) },
		"a timestamp that is none":       func(d *dictation) { d.unprotected = map[string]any{attrTimestamp: []byte("token")} },
		"no signature":                   func(d *dictation) { d.signature = strings.Repeat("\x00", 64) },
	} {
		for _, f := range []Format{JWS, COSE} {
			t.Run(name+" "+f.Short(), func(t *testing.T) {
				t.Parallel()
				w := &writer{forger: newForger(2, "P-256"), edit: edit}
				given := certchain.Chain(w.chain)
				switch {
				case strings.HasPrefix(name, "chain"), name == "no root":
					given = nil
				case strings.HasPrefix(name, "a leaf that"):
					given = nil
					w.edit = func(d *dictation) {
						root := certtest.Root("root")
						d.forger.chain = root.Chain(root.Leaf(d.key.Public(), "leaf", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }))
					}
				}
				at := signedAt()
				m, err := SignWith(t.Context(), f, askedPayload(), w, given, Options{SigningTime: at, Expiry: at.Add(time.Hour)})
				if m != nil || !errors.Is(err, ErrKeyMisbehaved) {
					t.Errorf("got %v", err)
				}
				wantReason(t, err, codeKey)
				if why[name] == "" || !strings.Contains(err.Error(), why[name]) {
					t.Errorf("%q does not say %q", err, why[name])
				}
				if len(w.asked) != 1 {
					t.Errorf("it was asked %d times", len(w.asked))
				}
			})
		}
	}
}

// TestSignWithOpened: the key that was opened is the one that must have signed, also without a chain.
func TestSignWithOpened(t *testing.T) {
	t.Parallel()
	w := &writer{forger: newForger(2, "P-256"), pub: certtest.Key("P-256").Public()}
	_, err := SignWith(t.Context(), JWS, askedPayload(), w, nil, Options{SigningTime: signedAt()})
	wantReason(t, err, codeKey)
	w.pub = w.key.Public()
	if _, err := SignWith(t.Context(), JWS, askedPayload(), w, nil, Options{SigningTime: signedAt()}); err != nil {
		t.Error(err)
	}
	// A renewed certificate for the same key is the same signer.
	root := certtest.Root("another root")
	if _, err := SignWith(t.Context(), JWS, askedPayload(), w, root.Chain(root.Leaf(w.pub, "leaf")), Options{SigningTime: signedAt()}); err != nil {
		t.Error(err)
	}
}

// TestSignWithExpiry: only a signing authority sets an expiry of its own.
func TestSignWithExpiry(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		w := &writer{forger: newForger(2, "P-256"), edit: func(d *dictation) { d.expiry = d.signedAt.Add(time.Hour) }}
		_, err := SignWith(t.Context(), f, askedPayload(), w, nil, Options{SigningTime: signedAt()})
		wantReason(t, err, codeKey)
		w.edit = func(d *dictation) { d.scheme, d.expiry = SchemeSigningAuthority, d.signedAt.Add(time.Hour) }
		m, err := SignWith(t.Context(), f, askedPayload(), w, nil, Options{SigningTime: signedAt()})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Content.Expiry.Sub(m.Content.AuthenticTime); got != time.Hour {
			t.Errorf("it expires after %s", got)
		}
		if w.asked[1].Expiry != 0 {
			t.Errorf("an expiry of %s was asked for", w.asked[1].Expiry)
		}
		w.edit = func(d *dictation) {
			d.scheme, d.signedAt, d.expiry = SchemeSigningAuthority, d.signedAt.Add(-time.Hour), d.signedAt
		}
		_, err = SignWith(t.Context(), f, askedPayload(), w, nil, Options{SigningTime: signedAt()})
		wantReason(t, err, codeKey) // expired on arrival
	}
}

// TestSignWithEndedChain: a chain that was valid when it signed, and has ended since, is no chain to publish with.
func TestSignWithEndedChain(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		fo := newForger(2, "P-256")
		at := signedAt()
		fo.key, fo.chain = certtest.ChainOf(2, "P-256", certtest.Valid(at.Add(-2*time.Hour), at.Add(-time.Hour)))
		w := &writer{forger: fo, edit: func(d *dictation) { d.signedAt = d.signedAt.Add(-90 * time.Minute) }}
		_, err := SignWith(t.Context(), f, askedPayload(), w, nil, Options{SigningTime: at})
		wantReason(t, err, codeKey)
		if !strings.Contains(err.Error(), "(expired)") {
			t.Errorf("%v", err)
		}
	}
}

func TestSignWithAnswers(t *testing.T) {
	t.Parallel()
	annotate := func(name, value string) func(*kms.EnvelopeAnswer) {
		return func(a *kms.EnvelopeAnswer) { a.Annotations = map[string]string{"com.example.job": "7", name: value} }
	}
	for name, c := range map[string]struct {
		change func(*kms.EnvelopeAnswer)
		code   string
	}{
		"annotations":                  {annotate("com.example.more", "ü"), ""},
		"reserved annotation":          {annotate("io.cncf.notary.x509chain.thumbprint#S256", "[]"), codeKey},
		"reserved in capitals":         {annotate("IO.CNCF.notary.x", ""), codeKey},
		"annotation of imprint's":      {annotate("io.imprint.claims", "[]"), codeKey},
		"annotation without a name":    {annotate("", "x"), codeKey},
		"control character in a name":  {annotate("a\nb", "x"), codeKey},
		"control character in a value": {annotate("a", "x\x1b[2J"), codeKey},
		"not UTF-8":                    {annotate("a", "\xff"), codeKey},
		"too many bytes":               {annotate("a", strings.Repeat("x", MaxAnnotations)), codeKey},
		"nothing":                      {func(a *kms.EnvelopeAnswer) { a.Envelope = nil }, codeKey},
		"no envelope":                  {func(a *kms.EnvelopeAnswer) { a.Envelope = []byte("null") }, codeKey},
		"something after it":           {func(a *kms.EnvelopeAnswer) { a.Envelope = append(a.Envelope, '1') }, codeKey},
		"more than 1 MiB":              {func(a *kms.EnvelopeAnswer) { a.Envelope = append(a.Envelope, bytes.Repeat([]byte(" "), MaxBytes)...) }, codeKey},
		"an envelope of the other form": {func(a *kms.EnvelopeAnswer) {
			fo := newForger(2, "P-256")
			if bytes.HasPrefix(a.Envelope, []byte("{")) {
				a.Envelope = fo.cose(coseParts{})
			} else {
				a.Envelope = fo.jws(jwsParts{})
			}
		}, codeKey},
	} {
		for _, f := range []Format{JWS, COSE} {
			t.Run(name+" "+f.Short(), func(t *testing.T) {
				t.Parallel()
				w := &writer{forger: newForger(2, "P-256"), change: c.change}
				m, err := SignWith(t.Context(), f, askedPayload(), w, nil, Options{SigningTime: signedAt()})
				wantReason(t, err, c.code)
				if c.code == "" && !cmp.Equal(m.Annotations, map[string]string{"com.example.job": "7", "com.example.more": "ü"}) {
					t.Errorf("annotations %q", m.Annotations)
				}
			})
		}
	}
}

// TestSignWithAsksNothing: what is wrong with the question is found before the key is used.
func TestSignWithAsksNothing(t *testing.T) {
	t.Parallel()
	at := signedAt()
	good := Options{SigningTime: at}
	stranger := newForger(2, "P-256")
	_, old := certtest.ChainOf(2, "P-256", certtest.Valid(at.Add(-2*time.Hour), at.Add(-time.Hour)))
	bad := askedPayload()
	bad.Size = -1
	for name, c := range map[string]struct {
		format  Format
		payload Payload
		chain   certchain.Chain
		known   bool
		o       Options
		code    string
	}{
		"format":            {"application/json", askedPayload(), nil, false, good, codeFormat},
		"payload":           {JWS, bad, nil, false, good, codePayload},
		"no time":           {JWS, askedPayload(), nil, false, Options{}, codeTime},
		"expiry at once":    {JWS, askedPayload(), nil, false, Options{SigningTime: at, Expiry: at}, codeTime},
		"expiry before":     {JWS, askedPayload(), nil, false, Options{SigningTime: at, Expiry: at.Add(-time.Hour)}, codeTime},
		"chain incomplete":  {JWS, askedPayload(), certchain.Chain(stranger.chain)[:1], false, good, "incomplete"},
		"chain expired":     {JWS, askedPayload(), old, false, good, "expired"},
		"another key's one": {JWS, askedPayload(), stranger.chain, true, good, "key-mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &writer{forger: newForger(2, "P-256")}
			if c.known {
				w.pub = w.key.Public()
			}
			m, err := SignWith(t.Context(), c.format, c.payload, w, c.chain, c.o)
			if m != nil || err == nil || errors.Is(err, ErrKeyMisbehaved) || len(w.asked) != 0 {
				t.Fatalf("%v after %d calls", err, len(w.asked))
			}
			var coded interface{ Reason() string }
			if !errors.As(err, &coded) {
				t.Fatalf("no reason: %v", err)
			}
			if coded.Reason() != c.code {
				t.Errorf("reason %s, want %s", coded.Reason(), c.code)
			}
		})
	}
	w := &writer{forger: newForger(2, "P-256"), fails: &kms.Error{Code: kms.CodeDenied, Class: kms.ErrService, Err: errors.New("no")}}
	if _, err := SignWith(t.Context(), JWS, askedPayload(), w, nil, good); !errors.Is(err, kms.ErrService) || errors.Is(err, ErrKeyMisbehaved) {
		t.Errorf("the key's own error: %v", err)
	}
}

// TestMadeRead: another envelope is read as strictly as ever, save for the one plugin.
func TestMadeRead(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		write := func(fo *forger, edit func(d *dictation)) []byte {
			w := &writer{forger: fo, edit: edit}
			return must(w.SignEnvelope(t.Context(), kms.EnvelopeRequest{
				Payload: must(askedPayload().encode()), PayloadType: PayloadType, EnvelopeType: string(f)})).Envelope
		}
		other := func(d *dictation) { plugin(d); d.more[0].value = "another" }
		forged := func(d *dictation) { plugin(d); d.key = certtest.Key("P-256") }
		unknown := func(d *dictation) { d.more = append(d.more, extra{"com.example.x", "1", true}) }
		for _, c := range []struct {
			name string
			m    *Made
			b    []byte
			code string
		}{
			{"plain by plain", &Made{}, write(newForger(2, "P-256"), nil), ""},
			{"the plugin's by plain", &Made{}, write(newForger(2, "P-256"), plugin), codeCriticalUnknown},
			{"plain by the plugin's", &Made{Plugin: "com.amazonaws.signer.notation.plugin"}, write(newForger(2, "P-256"), nil), ""},
			{"the plugin's", &Made{Plugin: "com.amazonaws.signer.notation.plugin"}, write(newForger(2, "P-256"), plugin), ""},
			{"another plugin's", &Made{Plugin: "com.amazonaws.signer.notation.plugin"}, write(newForger(2, "P-256"), other), codeCriticalUnknown},
			{"the plugin's, forged", &Made{Plugin: "com.amazonaws.signer.notation.plugin"}, write(newForger(2, "P-256"), forged), codeSignature},
			{"unknown critical", &Made{Plugin: "com.amazonaws.signer.notation.plugin"}, write(newForger(2, "P-256"), unknown), codeCriticalUnknown},
		} {
			content, err := c.m.Read(string(f), c.b)
			t.Run(c.name+" "+f.Short(), func(t *testing.T) { wantReason(t, err, c.code) })
			if c.code == "" && content.CoreID() == "" {
				t.Errorf("%s: not verified", c.name)
			}
		}
	}
}

// A key that signs envelopes signs nothing else.
func TestSignRefusesEnvelopeKey(t *testing.T) {
	t.Parallel()
	w := &writer{forger: newForger(2, "P-256")}
	if _, err := Sign(t.Context(), JWS, somePayload(), w, w.chain, Options{SigningTime: signedAt()}); !errors.Is(err, kms.ErrInvalid) {
		t.Errorf("without a public key: %v", err)
	}
	w.pub = w.key.Public()
	if _, err := Sign(t.Context(), JWS, somePayload(), w, w.chain, Options{SigningTime: signedAt()}); !errors.Is(err, kms.ErrInvalid) {
		t.Errorf("with one: %v", err)
	}
	if _, err := Sign(t.Context(), JWS, somePayload(), kmstest.Key(w.key), w.chain, Options{SigningTime: signedAt()}); err != nil {
		t.Errorf("the same key in memory: %v", err)
	}
}
