package notationplugin

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/imprint-oci/imprint/kms"
)

const contractVersion = "1.0"

// hashes are the key specs of the contract with the hash of each (signature specification, "Algorithm Selection").
var hashes = map[string]crypto.Hash{
	"RSA-2048": crypto.SHA256, "RSA-3072": crypto.SHA384, "RSA-4096": crypto.SHA512,
	"EC-256": crypto.SHA256, "EC-384": crypto.SHA384, "EC-521": crypto.SHA512,
}

// signingAlgorithm is the contract's name of an algorithm.
func signingAlgorithm(a kms.Algorithm) string {
	if a.PSS {
		return "RSASSA-PSS-" + a.Hash.String()
	}
	return "ECDSA-" + a.Hash.String()
}

// The requests, as the contract spells them.
type (
	metadataRequest struct {
		Config map[string]string `json:"pluginConfig,omitempty"`
	}
	keyRequest struct {
		Contract string            `json:"contractVersion"`
		ID       string            `json:"keyId"`
		Config   map[string]string `json:"pluginConfig,omitempty"`
	}
	signatureRequest struct {
		keyRequest
		Spec    string `json:"keySpec"`
		Hash    string `json:"hashAlgorithm"`
		Payload []byte `json:"payload"`
	}
	envelopeRequest struct {
		keyRequest
		Expiry       int64  `json:"expiryDurationInSeconds,omitempty"`
		Payload      []byte `json:"payload"`
		PayloadType  string `json:"payloadType"`
		EnvelopeType string `json:"signatureEnvelopeType"`
	}
)

func (p *plugin) keyRequest() keyRequest {
	return keyRequest{contractVersion, p.id, p.lock.with(p.config)}
}

// metadata asks the plugin what it is, checks that it is what was looked for, and returns its capabilities.
func (p *plugin) metadata(ctx context.Context) ([]string, error) {
	const command = "get-plugin-metadata"
	m, err := p.ask(ctx, command, metadataRequest{p.config})
	if err != nil {
		return nil, err
	}
	text := map[string]string{}
	for _, name := range []string{"name", "description", "version", "url"} {
		if text[name], err = m.text(name); err != nil {
			return nil, p.broken(command, "its answer %w", err)
		}
	}
	if text["name"] != p.name {
		return nil, p.broken(command, "it calls itself %q", kms.Text(text["name"]))
	}
	var contracts, capabilities []string
	if err := m.read("supportedContractVersions", &contracts); err != nil {
		return nil, p.broken(command, "its answer %w", err)
	}
	if err := m.read("capabilities", &capabilities); err != nil {
		return nil, p.broken(command, "its answer %w", err)
	}
	if !slices.Contains(contracts, contractVersion) {
		return nil, p.broken(command, "it speaks the plugin contract %.100q, not %s", contracts, contractVersion)
	}
	p.url = kms.Text(text["url"])
	return capabilities, nil
}

// describe asks for the key's spec, which is one of hashes.
func (p *plugin) describe(ctx context.Context) (spec string, m members, err error) {
	const command = "describe-key"
	if m, err = p.ask(ctx, command, p.keyRequest()); err != nil {
		return "", nil, err
	}
	if err := p.echo(command, m); err != nil {
		return "", nil, err
	}
	if spec, err = m.text("keySpec"); err != nil {
		return "", nil, p.broken(command, "its answer %w", err)
	}
	if _, ok := hashes[spec]; !ok {
		return "", nil, kms.Unsupported(fmt.Sprintf("%q, as the plugin %s says", kms.Text(spec), p.name))
	}
	return spec, m, nil
}

// echo checks that an answer is about the key that was asked about.
func (p *plugin) echo(command string, m members) error {
	id, err := m.text("keyId")
	if err != nil {
		return p.broken(command, "its answer %w", err)
	}
	if id != p.id {
		return p.broken(command, "its answer is about the key %q, not about %q", kms.Text(id), p.id)
	}
	return nil
}

// members are those of a JSON object, undecoded.
type members map[string]json.RawMessage

// parse reads exactly one JSON object. Names count as they are spelled, and once; those that nobody asks for are left alone, since
// later minor versions of the contract may add some. Errors continue "its answer".
func parse(b []byte) (members, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("is no JSON object: %q", kms.Text(string(b[:min(len(b), 100)])))
	}
	m := members{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("is no JSON: %w", err)
		}
		name, _ := t.(string) // a token in an object's place of names is a string
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("has the member %.100q twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("is no JSON: %w", err)
		}
		m[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("is no JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on after the JSON object")
	}
	return m, nil
}

// has reports whether there is a member of that name and it is not null.
func (m members) has(name string) bool {
	value, ok := m[name]
	return ok && string(value) != "null"
}

// read decodes a member that must be there.
func (m members) read(name string, v any) error {
	if !m.has(name) {
		return fmt.Errorf("has no %s", name)
	}
	if err := json.Unmarshal(m[name], v); err != nil {
		return fmt.Errorf("has a %s of another type", name)
	}
	return nil
}

// text reads a string that must not be empty.
func (m members) text(name string) (string, error) {
	var s string
	if err := m.read(name, &s); err != nil {
		return "", err
	}
	if s == "" {
		return "", fmt.Errorf("has an empty %s", name)
	}
	return s, nil
}

// bytes reads base64 that must not be empty.
func (m members) bytes(name string) ([]byte, error) {
	s, err := m.text(name)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("has a %s that is no base64", name)
	}
	return b, nil
}

// chain reads certificateChain: certificates in base64, leaf first. It may be empty.
func (m members) chain() ([]*x509.Certificate, error) {
	const name = "certificateChain"
	var texts []string
	if err := m.read(name, &texts); err != nil {
		return nil, err
	}
	if len(texts) > kms.MaxCertificates {
		return nil, fmt.Errorf("has a %s of %d certificates, more than %d", name, len(texts), kms.MaxCertificates)
	}
	chain := make([]*x509.Certificate, 0, len(texts))
	for i, text := range texts {
		der, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("has a %s whose certificate %d is no base64", name, i+1)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("has a %s whose certificate %d cannot be read: %w", name, i+1, err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}
