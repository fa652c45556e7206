package audit

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// opened is a token in whose parts that nobody signs, certificates and signers, more stands: anybody can put it there.
func opened(t *testing.T, token []byte, certs []*x509.Certificate, signers []byte) []byte {
	t.Helper()
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	_, err := asn1.Unmarshal(token, &info)
	must(t, err)
	var data asn1.RawValue
	_, err = asn1.Unmarshal(info.Content.Bytes, &data)
	must(t, err)
	var parts []asn1.RawValue
	for rest := data.Bytes; len(rest) > 0; {
		var part asn1.RawValue
		rest, err = asn1.Unmarshal(rest, &part)
		must(t, err)
		parts = append(parts, part)
	}
	if len(parts) != 5 {
		t.Fatalf("%d parts", len(parts))
	}
	for _, c := range certs {
		parts[3].Bytes = append(slices.Clone(parts[3].Bytes), c.Raw...)
	}
	parts[4].Bytes = append(slices.Clone(signers), parts[4].Bytes...)
	var body []byte
	for _, part := range parts {
		part.FullBytes = nil
		body = append(body, marshal(t, part)...)
	}
	info.Content = asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: marshal(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: body})}
	return marshal(t, info)
}

// signersOf is what a token has for signers.
func signersOf(t *testing.T, token []byte) []byte {
	t.Helper()
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	_, err := asn1.Unmarshal(token, &info)
	must(t, err)
	var data, part asn1.RawValue
	_, err = asn1.Unmarshal(info.Content.Bytes, &data)
	must(t, err)
	for rest := data.Bytes; len(rest) > 0; {
		rest, err = asn1.Unmarshal(rest, &part)
		must(t, err)
	}
	return part.Bytes
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	must(t, err)
	return b
}

// Nobody hides by a planted copy when the authority of a timestamp ends.
func TestPlantedTimestamps(t *testing.T) {
	t.Parallel()
	h := newHouse()
	first := h.sign(t, -200, h.old(), envelope.Options{}, "1.4")
	message := first.Unverified().Signature
	good, strange := h.tsa.Token(message, in(-199)), h.strangeTSA.Token(message, in(-199))
	put := func(token []byte) *envelope.Envelope {
		e, err := first.WithTimestamp(token)
		must(t, err)
		return e
	}
	// One for the authority's key under the stranger's root.
	cross := h.strangeTSA.Root.IntermediateWith(h.tsa.CA.Key, "tsa ca", valid(-1000, 3000)).Certificate
	bagged := []*envelope.Envelope{put(good), put(strange)}
	double := []*envelope.Envelope{put(good)}
	for i := range 8 { // of equals the one of the lowest digest stands in for the others
		more := certtest.Root("more", valid(-10, 10+i)).Certificate
		bagged = append(bagged, put(opened(t, good, []*x509.Certificate{cross, h.strangeTSA.CA.Certificate, h.strangeTSA.Root.Certificate, more}, nil)))
		double = append(double, put(opened(t, good, []*x509.Certificate{h.strangeTSA.Certificate, more}, signersOf(t, strange))))
	}
	end := ending{at: in(17), kind: EndTSA}
	for name, set := range map[string][]*envelope.Envelope{"certificates put in": bagged, "a signer put in": double} {
		if got := endsOf(t, set); !slices.Contains(got, end) {
			t.Errorf("%s: %v", name, got)
		}
	}
	trusted := Options{TimestampRoots: h.tsa.Roots()}
	if diff := cmp.Diff([]string{"current, 17 tsa, timestamp"}, verdicts(t, trusted, double[1])); diff != "" {
		t.Errorf("a signer put in, roots given (-want +got):\n%s", diff)
	}
}

// What stock verifiers do not find by the list stands in for nothing, and is told.
func TestMisdescribedIsNoSignature(t *testing.T) {
	t.Parallel()
	h := newHouse()
	first := h.sign(t, -200, h.old(), envelope.Options{}, "1.4")
	a := New(Options{Now: auditTime})
	var marks []*mark
	for i, e := range []*envelope.Envelope{first, withChain(t, first, h.renewed(-400, 200))} {
		m := registry.ByArtifactType.Manifest(markSubject, string(envelope.JWS), e.Bytes(), nil)
		marks = append(marks, a.mark(registry.Signature{
			Subject: markSubject, Descriptor: m.Descriptor, Manifest: m, MediaType: string(envelope.JWS), Envelope: e.Bytes(), Misdescribed: i == 1,
		}, markSubject))
	}
	a.settle(marks)
	if marks[0].State != StateCurrent || marks[1].State != StateBad || marks[1].Reason != codeMisdescribed {
		t.Errorf("%s, %s (%s)", marks[0].State, marks[1].State, marks[1].Reason)
	}
}
