package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

const (
	// PayloadType is the content type of every payload (signature specification, "Payload").
	PayloadType = "application/vnd.cncf.notary.payload.v1+json"
	// ClaimsAnnotation holds the claimed tags: a canonical JSON array of strings (docs/signature.md).
	ClaimsAnnotation = "io.imprint.claims"
	// MaxAnnotations limits all keys and values of a payload's annotations together, bytes, when it is signed.
	MaxAnnotations = 64 << 10

	// Annotations that start so are the Notary Project's own (signature specification, "Payload").
	reservedPrefix = "io.cncf.notary"
)

// A Payload is what is signed: the descriptor of an artifact with signed annotations.
type Payload struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Claims returns the claims of the payload, and whether there are any at all: an empty list is one. An annotation
// that is not a JSON array of strings is an error (reason claims-malformed).
func (p Payload) Claims() (claims []string, present bool, err error) {
	value, ok := p.Annotations[ClaimsAnnotation]
	if !ok {
		return nil, false, nil
	}
	if err := checkJSON([]byte(value)); err != nil {
		return nil, true, &Error{codeClaims, fmt.Errorf("annotation %s: %w", ClaimsAnnotation, err)}
	}
	claims, err = stringArray([]byte(value))
	if err != nil {
		return nil, true, &Error{codeClaims, fmt.Errorf("annotation %s: %w", ClaimsAnnotation, err)}
	}
	return claims, true, nil
}

// EncodeClaims returns the canonical value of ClaimsAnnotation: sorted, unique, no white space; "[]" for none. HTML
// escaping is off.
func EncodeClaims(claims []string) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(claims)))
	if len(sorted) == 0 {
		return "[]"
	}
	return string(encodeJSON(sorted))
}

// Equal reports whether both payloads are the same artifact with the same annotations.
func (p Payload) Equal(o Payload) bool {
	return p.MediaType == o.MediaType && p.Digest == o.Digest && p.Size == o.Size && maps.Equal(p.Annotations, o.Annotations)
}

var (
	// RFC 6838, 4.2; without parameters, which manifests never have.
	mediaTypeForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$`)
	})
	// The two algorithms that the image specification registers and stock verifiers read.
	digestForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`) })
	sizeForm   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(0|[1-9][0-9]*)$`) })
)

// checkDescriptor is what holds for the payloads that we sign and for those that we read.
func (p Payload) checkDescriptor() error {
	switch {
	case !mediaTypeForm().MatchString(p.MediaType):
		return fmt.Errorf("media type %q is malformed", p.MediaType)
	case !digestForm().MatchString(string(p.Digest)):
		return fmt.Errorf("digest %q is malformed or of another algorithm than sha256 and sha512", p.Digest)
	case p.Size < 0:
		return fmt.Errorf("size %d is negative", p.Size)
	}
	return nil
}

// encode checks p for signing and returns the payload's bytes.
func (p Payload) encode() ([]byte, error) {
	if err := p.checkDescriptor(); err != nil {
		return nil, &Error{codePayload, fmt.Errorf("payload: %w", err)}
	}
	total := 0
	for _, k := range slices.Sorted(maps.Keys(p.Annotations)) {
		v := p.Annotations[k]
		total += len(k) + len(v)
		switch {
		case k == "":
			return nil, refuse(codePayload, "an annotation without a name")
		case !utf8.ValidString(k) || !utf8.ValidString(v):
			return nil, refuse(codePayload, "annotation %q is not valid UTF-8", k)
		case strings.HasPrefix(k, reservedPrefix):
			return nil, refuse(codePayload, "annotation %q: names that start with %s are reserved", k, reservedPrefix)
		}
	}
	if total > MaxAnnotations {
		return nil, refuse(codePayload, "the annotations have more than %d bytes", MaxAnnotations)
	}
	claims, present, err := p.Claims()
	if err != nil {
		return nil, err
	}
	if present && EncodeClaims(claims) != p.Annotations[ClaimsAnnotation] {
		return nil, refuse(codeClaims, "annotation %s is not canonical", ClaimsAnnotation)
	}
	b := encodeJSON(struct {
		TargetArtifact Payload `json:"targetArtifact"`
	}{p})
	// What is signed must mean to a strict reader what was meant.
	back, err := parsePayload(b)
	if err != nil {
		return nil, err
	}
	if !back.Equal(p) {
		return nil, refuse(codePayload, "the payload does not survive its encoding")
	}
	return b, nil
}

// parsePayload reads a payload strictly. Members that the plugin protocol allows in the descriptor (plugin specification, "generate-envelope")
// are accepted and not interpreted; no other unknown member is.
func parsePayload(b []byte) (Payload, error) {
	p, err := readPayload(b)
	if err == nil {
		err = p.checkDescriptor()
	}
	if err != nil {
		return Payload{}, &Error{codePayload, fmt.Errorf("payload: %w", err)}
	}
	return p, nil
}

func readPayload(b []byte) (p Payload, err error) {
	if err := checkJSON(b); err != nil {
		return p, err
	}
	top, err := members(b)
	if err != nil {
		return p, err
	}
	if len(top) != 1 || top[0].name != "targetArtifact" {
		return p, errors.New("its only member must be targetArtifact")
	}
	target, err := members(top[0].value)
	if err != nil {
		return p, fmt.Errorf("targetArtifact: %w", err)
	}
	var has struct{ mediaType, digest, size bool }
	for _, m := range target {
		switch m.name {
		case "mediaType":
			p.MediaType, err = stringValue(m.value)
			has.mediaType = true
		case "digest":
			var s string
			s, err = stringValue(m.value)
			p.Digest = digest.Digest(s)
			has.digest = true
		case "size":
			p.Size, err = sizeValue(m.value)
			has.size = true
		case "annotations":
			p.Annotations, err = stringMap(m.value)
		case "urls", "data", "platform", "artifactType":
		default:
			err = errors.New("unknown member")
		}
		if err != nil {
			return p, fmt.Errorf("targetArtifact: %q: %w", m.name, err)
		}
	}
	if !has.mediaType || !has.digest || !has.size {
		return p, errors.New("targetArtifact: mediaType, digest and size must all be there")
	}
	return p, nil
}

// sizeValue reads an integer exactly: a float or an exponent would be another number to another reader.
func sizeValue(raw json.RawMessage) (int64, error) {
	if !sizeForm().Match(raw) {
		return 0, errors.New("not a whole number")
	}
	return strconv.ParseInt(string(raw), 10, 64)
}

// encodeJSON encodes what cannot fail, without HTML escaping.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("envelope: encoding %T: %v", v, err)) // strings, numbers and maps of strings only
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
