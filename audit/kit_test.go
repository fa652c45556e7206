package audit

import (
	"crypto"
	"crypto/x509"
	"testing"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func payloadOf(m registry.Manifest, annotations map[string]string) envelope.Payload {
	return envelope.Payload{MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size, Annotations: annotations}
}

func sign(t testing.TB, format envelope.Format, p envelope.Payload, key crypto.Signer, chain []*x509.Certificate, o envelope.Options) *envelope.Envelope {
	t.Helper()
	e, err := envelope.Sign(t.Context(), format, p, kmstest.Key(key), chain, o)
	must(t, err)
	return e
}
