package vault

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imprint-oci/imprint/kms"
)

// usable are the types of transit keys that make Notary Project signatures.
var usable = []string{"rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521"}

// A transitKey is the data of GET MOUNT/keys/NAME.
type transitKey struct {
	Type          string                     `json:"type"`
	Latest        int                        `json:"latest_version"`
	MinEncryption int                        `json:"min_encryption_version"` // for signing too
	Signing       *bool                      `json:"supports_signing"`
	SoftDeleted   bool                       `json:"soft_deleted"` // OpenBao
	Versions      map[string]json.RawMessage `json:"keys"`         // of symmetric keys these are numbers
}

// A keyVersion is one of keys.
type keyVersion struct {
	PublicKey        string   `json:"public_key"`
	CertificateChain pemChain `json:"certificate_chain"`
}

// version checks that the key can sign, pins the version in e, and returns it.
func (k *transitKey) version(e *engine) (*keyVersion, error) {
	if !slices.Contains(usable, k.Type) || k.Signing != nil && !*k.Signing {
		return nil, kms.Invalid(kms.CodeAlgorithm, "the transit key %s is of type %s: Notary Project signatures need %s or %s", e.path("keys"), kms.Text(k.Type),
			strings.Join(usable[:len(usable)-1], ", "), usable[len(usable)-1])
	}
	if k.SoftDeleted {
		return nil, kms.Failure(kms.CodeUnusable, "bring it back: `"+e.names.tool+" write -f "+e.path("keys")+"/soft-delete-restore`",
			"%s has marked %s as deleted", e.at(), e.path("keys"))
	}
	version := e.place.version
	if version == 0 {
		version = k.Latest
	}
	raw, ok := k.Versions[strconv.Itoa(version)]
	switch {
	case version < 1 || version > k.Latest:
		return nil, kms.Failure(kms.CodeNotFound, "name a version from 1 to "+strconv.Itoa(k.Latest)+", or none for the latest",
			"%s has no version %d of %s: the latest is %d", e.at(), version, e.path("keys"), k.Latest)
	case version < k.MinEncryption:
		return nil, kms.Failure(kms.CodeUnusable, e.lowerMinimum(version), "%s signs with %s from version %d on, not with version %d", e.at(), e.path("keys"), k.MinEncryption, version)
	case !ok:
		return nil, kms.Failure(kms.CodeUnusable, "`"+e.names.tool+" read "+e.path("keys")+"` shows the versions in use", "%s has put version %d of %s away: it is below min_decryption_version or min_available_version",
			e.at(), version, e.path("keys"))
	}
	v := new(keyVersion)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, kms.Service("the answer of %s about %s cannot be read: %w", e.at(), e.path("keys"), err)
	}
	e.place.version = version
	return v, nil
}

func (e *engine) lowerMinimum(version int) string {
	return fmt.Sprintf("use a newer version, or `%s write %s/config min_encryption_version=%d`", e.names.tool, e.path("keys"), version)
}

// public parses the one public key.
func (v *keyVersion) public() (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(v.PublicKey))
	switch {
	case block == nil:
		return nil, errors.New("no PEM")
	case block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("not one PUBLIC KEY alone")
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

// A pemChain holds certificates as PEM: one text, as Vault and OpenBao write it, or a list of texts, as their set-certificate takes it.
type pemChain []string

func (c *pemChain) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(c))
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*c = pemChain{text}
	return nil
}

func (c pemChain) parse() ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, text := range c {
		rest := bytes.TrimSpace([]byte(text))
		for len(rest) > 0 {
			var block *pem.Block
			block, rest = pem.Decode(rest)
			rest = bytes.TrimSpace(rest)
			switch {
			case block == nil:
				return nil, errors.New("there is something else than PEM in it")
			case block.Type != "CERTIFICATE":
				return nil, fmt.Errorf("there is a %s in it", kms.Text(block.Type))
			case len(certs) == kms.MaxCertificates:
				return nil, fmt.Errorf("it has more than %d certificates", kms.MaxCertificates)
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			certs = append(certs, cert)
		}
	}
	return certs, nil
}
