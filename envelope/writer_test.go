package envelope

import (
	"context"
	"crypto"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/imprint-oci/imprint/kms"
)

// A writer is an envelope plugin of the test's own: it shares no code with the room, and writes what it was told to.
type writer struct {
	*forger
	pub    crypto.PublicKey // what the key says of itself before it signed
	edit   func(d *dictation)
	change func(a *kms.EnvelopeAnswer)
	fails  error
	asked  []kms.EnvelopeRequest
}

var _ kms.EnvelopeSigner = (*writer)(nil)

func (w *writer) Public() crypto.PublicKey { return w.pub }

func (w *writer) Sign(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, kms.Invalid(kms.CodeOptions, "this key signs envelopes")
}

func (w *writer) SignEnvelope(_ context.Context, r kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	w.asked = append(w.asked, r)
	if w.fails != nil {
		return kms.EnvelopeAnswer{}, w.fails
	}
	d := dictation{format: Format(r.EnvelopeType), payload: string(r.Payload), contentType: r.PayloadType, scheme: SchemeX509, signedAt: signedAt(), forger: *w.forger}
	if r.Expiry != 0 {
		d.expiry = d.signedAt.Add(r.Expiry)
	}
	if w.edit != nil {
		w.edit(&d)
	}
	a := kms.EnvelopeAnswer{Envelope: d.write()}
	if w.change != nil {
		w.change(&a)
	}
	return a, nil
}

// A dictation is what a writer writes.
type dictation struct {
	forger
	format               Format
	payload, contentType string
	scheme               string
	signedAt, expiry     time.Time
	more                 []extra
	unprotected          map[string]any
	signature            string // "": a good one
}

type extra struct {
	name     string
	value    any
	critical bool
}

func (d *dictation) write() []byte {
	when := attrSigningTime
	critical := []any{attrScheme}
	if d.scheme == SchemeSigningAuthority {
		when = attrAuthenticTime
		critical = append(critical, attrAuthenticTime)
	}
	if !d.expiry.IsZero() {
		critical = append(critical, attrExpiry)
	}
	for _, m := range d.more {
		if m.critical {
			critical = append(critical, m.name)
		}
	}
	if d.format == COSE {
		alg := d.coseProtected()[1]
		protected := pairs{1, alg, 2, critical, 3, d.contentType, attrScheme, d.scheme, when, tagged(d.signedAt.Unix())}
		if !d.expiry.IsZero() {
			protected = append(protected, attrExpiry, tagged(d.expiry.Unix()))
		}
		for _, m := range d.more {
			protected = append(protected, m.name, m.value)
		}
		unprotected := pairs{33, d.x5chain()}
		for _, name := range slices.Sorted(maps.Keys(d.unprotected)) {
			unprotected = append(unprotected, name, d.unprotected[name])
		}
		parts := coseParts{protected: protected, unprotected: unprotected, payload: []byte(d.payload)}
		if d.signature != "" {
			parts.signature = []byte(d.signature)
		}
		return d.cose(parts)
	}
	protected := map[string]any{"alg": d.alg, "cty": d.contentType, "crit": critical, attrScheme: d.scheme, when: d.signedAt.Format(time.RFC3339)}
	if !d.expiry.IsZero() {
		protected[attrExpiry] = d.expiry.Format(time.RFC3339)
	}
	for _, m := range d.more {
		protected[m.name] = m.value
	}
	header := `{"x5c":%C`
	for _, name := range slices.Sorted(maps.Keys(d.unprotected)) {
		header += `,"` + name + `":` + string(must(json.Marshal(d.unprotected[name])))
	}
	return d.jws(jwsParts{protected: string(must(json.Marshal(protected))), payload: d.payload, header: header + "}", signature: d.signature})
}

func askedPayload() Payload {
	p := somePayload()
	p.Annotations = map[string]string{ClaimsAnnotation: `["1.4"]`, "build": "7"}
	return p
}

// plugin names a verification plugin, as AWS Signer's envelopes do.
func plugin(d *dictation) {
	d.scheme = SchemeSigningAuthority
	d.more = append(d.more,
		extra{attrPlugin, "com.amazonaws.signer.notation.plugin", true},
		extra{attrPluginVersion, "1.0.0", true},
		extra{"com.amazonaws.signer.signingJob", "arn:aws:signer:eu-west-1:1:/signing-jobs/1", true},
		extra{"com.amazonaws.signer.profile", "release", false})
}
