package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxRequest bounds a request; what is signed is a manifest's descriptor, some hundreds of bytes.
const maxRequest = 16 << 20

// A request is any of the contract's.
type request struct {
	Contract string `json:"contractVersion"`
	KeyID    string `json:"keyId"`
	KeySpec  string `json:"keySpec"`
	Hash     string `json:"hashAlgorithm"`
	Payload  []byte `json:"payload"`
	Config   config `json:"pluginConfig"`
}

// readRequest reads the one JSON object of stdin. Members that the contract may get later are left alone.
func readRequest(stdin io.Reader) (*request, error) {
	b := make([]byte, maxRequest+1) // at once: growing would leave copies of a PIN behind
	n, err := io.ReadFull(stdin, b)
	defer clear(b[:n])
	switch {
	case err == nil:
		return nil, invalid("the request is longer than %d bytes", maxRequest)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("reading the request: %w", err)
	case len(bytes.TrimSpace(b[:n])) == 0:
		return nil, invalid("there is no request on stdin: hosts of plugins write one, and --help says more")
	}
	r := new(request)
	if err := json.Unmarshal(b[:n], r); err != nil {
		r.Config.wipe()
		var own *failure
		if errors.As(err, &own) {
			return nil, own
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, invalid("the request is no JSON object: %v at byte %d", syntax, syntax.Offset)
		}
		return nil, invalid("the request is not one of the plugin contract: a member is of another type")
	}
	return r, nil
}

// checkKey checks what requests about a key have in common.
func (r *request) checkKey() error {
	switch {
	case r.Contract == "":
		return invalid("the request has no contractVersion")
	case r.Contract != contract:
		return &failure{Code: codeContract, Message: fmt.Sprintf("the plugin contract %.20q is not supported: this is for %s", r.Contract, contract)}
	case r.KeyID == "":
		return invalid("the request has no keyId")
	}
	return nil
}

// config is pluginConfig.
type config struct {
	pin           []byte
	pinSource     string
	chainFile     string
	chainOptional bool
	pkcs1         bool
}

func (c *config) wipe() { clear(c.pin) }

// UnmarshalJSON makes no string of the PIN, for strings cannot be overwritten. Errors do not repeat values.
func (c *config) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return invalid("pluginConfig is no JSON object")
	}
	defer func() {
		for _, raw := range m {
			clear(raw)
		}
	}()
	for _, key := range slices.Sorted(maps.Keys(m)) {
		value, err := unquote(m[key])
		if err != nil {
			return invalid("pluginConfig: the value of %.100q is no string", key)
		}
		switch key {
		case "pin":
			c.pin = value
		case "pin-source":
			c.pinSource = string(value)
		case "chain-file":
			c.chainFile = string(value)
		case "chain":
			if c.chainOptional = string(value) == "optional"; !c.chainOptional && string(value) != "required" {
				return invalid("pluginConfig: chain is optional or required")
			}
		case "padding":
			if c.pkcs1 = string(value) == "pkcs1"; !c.pkcs1 && string(value) != "pss" {
				return invalid("pluginConfig: padding is pss or pkcs1")
			}
		default:
			return invalid("pluginConfig has the unknown key %.100q; there is pin-source, chain-file, chain, padding", key)
		}
	}
	return nil
}

// unquote reads a JSON string, which package json has found well-formed, into bytes that can be overwritten.
func unquote(raw []byte) ([]byte, error) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, errors.New("no string")
	}
	raw = raw[1 : len(raw)-1]
	out := make([]byte, 0, len(raw)) // no escape is shorter than what it stands for
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		if at := strings.IndexByte(`"\/bfnrt`, raw[i]); at >= 0 {
			out = append(out, "\"\\/\b\f\n\r\t"[at])
			continue
		}
		r := hex4(raw[i+1:])
		i += 4
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if bytes.HasPrefix(raw[i+1:], []byte(`\u`)) {
				low = hex4(raw[i+3:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 6
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}

func hex4(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[:4]), 16, 32) // four digits, as package json has checked
	return rune(n)
}
