package vault

import (
	"context"
	"crypto"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/imprint-oci/imprint/kms"
)

// A signOrder is what is sent to MOUNT/sign/NAME. Nothing is left to defaults: those of salt_length and signature_algorithm are
// no Notary Project signatures.
type signOrder struct {
	Input      []byte `json:"input"` // base64 in JSON
	Prehashed  bool   `json:"prehashed"`
	Hash       string `json:"hash_algorithm"`
	Version    int    `json:"key_version"`
	Marshaling string `json:"marshaling_algorithm"`
	Padding    string `json:"signature_algorithm,omitempty"`
	Salt       string `json:"salt_length,omitempty"`
}

func (e *engine) sign(ctx context.Context, r kms.SignRequest) ([]byte, error) {
	hash := hashName(r.Algorithm.Hash)
	if hash == "" {
		return nil, kms.Invalid(kms.CodeOptions, "transit keys do not sign hashes of kind %v", r.Algorithm.Hash)
	}
	order := signOrder{Input: r.Digest, Prehashed: true, Hash: hash, Version: e.place.version, Marshaling: "asn1"}
	switch {
	case r.PKCS1:
		order.Padding = "pkcs1v15"
	case r.Algorithm.PSS:
		order.Padding, order.Salt = "pss", "hash"
	}
	var answer struct {
		Signature string `json:"signature"`
	}
	if err := e.ask(ctx, http.MethodPost, "sign", order, &answer); err != nil {
		return nil, err
	}
	return e.signature(answer.Signature)
}

func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return "sha2-256"
	case crypto.SHA384:
		return "sha2-384"
	case crypto.SHA512:
		return "sha2-512"
	}
	return ""
}

// signature splits vault:vN:BASE64; OpenBao writes vault too.
func (e *engine) signature(text string) ([]byte, error) {
	bad := func(why string) error {
		return kms.Failure(kms.CodeSignature, "", "%s answered with something else than a signature: %s", e.at(), why)
	}
	rest, ok := strings.CutPrefix(text, "vault:v")
	if !ok {
		return nil, bad("it does not begin with vault:v")
	}
	version, encoded, ok := strings.Cut(rest, ":")
	if !ok || !versionNumber().MatchString(version) {
		return nil, bad("it names no version")
	}
	if version != strconv.Itoa(e.place.version) {
		return nil, kms.Failure(kms.CodeSignature, "", "%s signed with version %s of %s instead of version %d", e.at(), version, e.path("keys"), e.place.version)
	}
	// Strict and without the line breaks that the decoder would skip.
	sig, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(sig) == 0 || strings.ContainsAny(encoded, "\r\n") {
		return nil, bad("it is not base64")
	}
	return sig, nil
}
