// Command notation-test is a Notary Project signing plugin for tests of plugin hosts: RAW and ENVELOPE, with any misbehaviour.
//
// Its configuration (pluginConfig, over the JSON file beside its executable):
//
//	key-file, chain-file   PEM; the chain leaf first
//	capabilities           RAW (default), ENVELOPE, RAW,ENVELOPE, or NONE
//	calls-file             gets a line with the command of each call
//	record-file            gets arguments, environment and request of each call
//	pids-file              gets the process ids of a plugin that hangs
//	fault, times           a fault of faults.go as FAULT (when it signs) or COMMAND/FAULT; in the first calls only
//	latency                how long a signature takes, as time.ParseDuration reads it
//	extended               1: describe-key answers as imprint's notation-pkcs11 does
//	real-pin, late-pin     what a token compares pin with; late: to sign only
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A request has the members of all requests of contract 1.0.
type request struct {
	ContractVersion string            `json:"contractVersion"`
	KeyID           string            `json:"keyId"`
	PluginConfig    map[string]string `json:"pluginConfig"`
	KeySpec         string            `json:"keySpec"`
	HashAlgorithm   string            `json:"hashAlgorithm"`
	Payload         []byte            `json:"payload"`
	PayloadType     string            `json:"payloadType"`
	EnvelopeType    string            `json:"signatureEnvelopeType"`
	Expiry          int64             `json:"expiryDurationInSeconds"`
}

// A failure is an error of the contract.
type failure struct {
	Code     string            `json:"errorCode"`
	Message  string            `json:"errorMessage,omitempty"`
	Metadata map[string]string `json:"errorMetadata,omitempty"`
}

func (f *failure) Error() string { return f.Code + ": " + f.Message }

func fail(code, format string, args ...any) error {
	return &failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

// A run is one call of the plugin.
type run struct {
	command string
	request request
	config  map[string]string
	fault   string // that counts for this command, now; "" none
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "hold" { // the grandchild of a plugin that hangs
		time.Sleep(10 * time.Minute)
		return
	}
	answer, err := answer()
	if err != nil {
		var f *failure
		if !errors.As(err, &f) {
			f = &failure{Code: "ERROR", Message: err.Error()}
		}
		_ = json.NewEncoder(os.Stderr).Encode(f)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		os.Exit(1)
	}
}

func answer() (map[string]any, error) {
	if len(os.Args) != 2 {
		return nil, fail("VALIDATION_ERROR", "one argument is expected: the command")
	}
	r := &run{command: os.Args[1]}
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(in, &r.request); err != nil {
		return nil, fail("VALIDATION_ERROR", "the request is no JSON: %v", err)
	}
	r.config = map[string]string{}
	if b, err := os.ReadFile(os.Args[0] + ".json"); err == nil {
		if err := json.Unmarshal(b, &r.config); err != nil {
			return nil, err
		}
	}
	maps.Copy(r.config, r.request.PluginConfig)
	if err := r.record(in); err != nil {
		return nil, err
	}
	if r.command != "get-plugin-metadata" {
		if r.request.ContractVersion != "1.0" {
			return nil, fail("UNSUPPORTED_CONTRACT_VERSION", "%q", r.request.ContractVersion)
		}
		if r.request.KeyID == "" {
			return nil, fail("VALIDATION_ERROR", "keyId is empty")
		}
		if err := r.login(); err != nil {
			return nil, err
		}
	}
	if err := r.misbehave(); err != nil {
		return nil, err
	}
	out, err := r.obey()
	if err != nil {
		return nil, err
	}
	return r.spoil(out)
}

func (r *run) obey() (map[string]any, error) {
	switch r.command {
	case "get-plugin-metadata":
		return r.metadata(), nil
	case "describe-key":
		return r.describe()
	case "generate-signature":
		return r.sign()
	case "generate-envelope":
		return r.envelope()
	}
	return nil, fail("VALIDATION_ERROR", "no command %q", r.command)
}

// record counts this call, and finds out whether the fault counts for it.
func (r *run) record(in []byte) error {
	if path := r.config["record-file"]; path != "" {
		text := fmt.Sprintf("argv: %q\nenviron: %q\nstdin: %s\n", os.Args, os.Environ(), in)
		if err := appendTo(path, text); err != nil {
			return err
		}
	}
	before := 0
	if path := r.config["calls-file"]; path != "" {
		b, _ := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			if strings.TrimSpace(line) == r.command {
				before++
			}
		}
		if err := appendTo(path, r.command+"\n"); err != nil {
			return err
		}
	}
	command, fault, found := strings.Cut(r.config["fault"], "/")
	if !found {
		command, fault = "", command
	}
	times := 1 << 30
	if text := r.config["times"]; text != "" {
		if _, err := fmt.Sscan(text, &times); err != nil {
			return err
		}
	}
	signs := strings.HasPrefix(r.command, "generate-")
	if (command == r.command || command == "" && signs) && before < times {
		r.fault = fault
	}
	if d, err := time.ParseDuration(r.config["latency"]); err == nil && signs {
		time.Sleep(d)
	}
	return nil
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// login compares the PIN as imprint's notation-pkcs11 has a token do it.
func (r *run) login() error {
	want := r.config["real-pin"]
	switch {
	case want == "" || r.config["pin"] == want:
		return nil
	case r.config["late-pin"] != "" && r.command == "describe-key":
		return nil
	case r.config["pin"] == "":
		return &failure{"ACCESS_DENIED", "the token wants a PIN", map[string]string{"class": "credentials", "ask": "pin"}}
	}
	return &failure{"ACCESS_DENIED", "the PIN " + r.config["pin"] + " is wrong", map[string]string{"class": "denied"}}
}

func (r *run) metadata() map[string]any {
	capabilities := []string{}
	for _, c := range strings.Split(r.config["capabilities"], ",") {
		switch c {
		case "":
			c = "RAW"
		case "NONE":
			capabilities = append(capabilities, "SIGNATURE_VERIFIER.REVOCATION_CHECK")
			continue
		}
		capabilities = append(capabilities, "SIGNATURE_GENERATOR."+c)
	}
	return map[string]any{
		"name":        strings.TrimPrefix(filepath.Base(os.Args[0]), "notation-"),
		"description": "a plugin for tests", "version": "1.2.3", "url": "https://plugin.example/docs",
		"supportedContractVersions": []string{"1.0"}, "capabilities": capabilities,
	}
}

func (r *run) key() (crypto.Signer, error) {
	b, err := os.ReadFile(r.config["key-file"])
	if err != nil {
		return nil, fail("VALIDATION_ERROR", "no key %q: %v", r.request.KeyID, err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("no PEM in %s", r.config["key-file"])
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(crypto.Signer), nil
}

// chain returns the certificates as DER.
func (r *run) chain() ([][]byte, error) {
	b, err := os.ReadFile(r.config["chain-file"])
	if err != nil {
		return nil, err
	}
	chain := [][]byte{}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		chain = append(chain, block.Bytes)
	}
	return chain, nil
}

func spec(pub crypto.PublicKey) (spec, hash string) {
	size := 0
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		size = pub.N.BitLen()
		spec = fmt.Sprintf("RSA-%d", size)
	case *ecdsa.PublicKey:
		size = pub.Params().BitSize
		spec = fmt.Sprintf("EC-%d", size)
	}
	hash = map[int]string{2048: "SHA-256", 3072: "SHA-384", 4096: "SHA-512", 256: "SHA-256", 384: "SHA-384", 521: "SHA-512"}[size]
	return spec, hash
}

func (r *run) describe() (map[string]any, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	s, _ := spec(key.Public())
	out := map[string]any{"keyId": r.request.KeyID, "keySpec": s}
	if r.config["extended"] == "" {
		return out, nil
	}
	if out["publicKey"], err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, err
	}
	if out["certificateChain"], err = r.chain(); err != nil {
		return nil, err
	}
	out["uri"] = "pkcs11:token=Test%20Token;id=%01"
	return out, nil
}

func digest(hash string, message []byte) (crypto.Hash, []byte, error) {
	switch hash {
	case "SHA-256":
		d := sha256.Sum256(message)
		return crypto.SHA256, d[:], nil
	case "SHA-384":
		d := sha512.Sum384(message)
		return crypto.SHA384, d[:], nil
	case "SHA-512":
		d := sha512.Sum512(message)
		return crypto.SHA512, d[:], nil
	}
	return 0, nil, fail("VALIDATION_ERROR", "no hash %q", hash)
}

func (r *run) sign() (map[string]any, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	s, h := spec(key.Public())
	if r.request.KeySpec != s || r.request.HashAlgorithm != h {
		return nil, fail("VALIDATION_ERROR", "%s with %s for a key %s", r.request.KeySpec, r.request.HashAlgorithm, s)
	}
	hash, sum, err := digest(h, r.request.Payload)
	if err != nil {
		return nil, err
	}
	algorithm := "ECDSA-" + h
	var sig []byte
	switch key := key.(type) {
	case *rsa.PrivateKey:
		algorithm = "RSASSA-PSS-" + h
		if r.config["padding"] == "pkcs1" {
			algorithm = "RSASSA-PKCS1-v1_5-" + h
			sig, err = rsa.SignPKCS1v15(rand.Reader, key, hash, sum)
			break
		}
		salt := rsa.PSSSaltLengthEqualsHash
		if r.fault == "salt" {
			salt = rsa.PSSSaltLengthAuto
		}
		sig, err = rsa.SignPSS(rand.Reader, key, hash, sum, &rsa.PSSOptions{SaltLength: salt})
	case *ecdsa.PrivateKey:
		a, b, e := ecdsa.Sign(rand.Reader, key, sum)
		if err = e; err == nil {
			width := (key.Params().N.BitLen() + 7) / 8
			sig = slices.Concat(a.FillBytes(make([]byte, width)), b.FillBytes(make([]byte, width)))
		}
		if r.fault == "der" {
			sig, err = ecdsa.SignASN1(rand.Reader, key, sum)
		}
	}
	if err != nil {
		return nil, err
	}
	chain, err := r.chain()
	if err != nil {
		return nil, err
	}
	return map[string]any{"keyId": r.request.KeyID, "signature": sig, "signingAlgorithm": algorithm, "certificateChain": chain}, nil
}
