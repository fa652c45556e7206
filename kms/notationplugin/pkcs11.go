package notationplugin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/imprint-oci/imprint/kms"
)

// pkcs11Jobs bounds the processes at once of one token: each logs in by itself.
const pkcs11Jobs = 4

// touch is how long a signature may take: some tokens want to be touched, or the PIN typed on their own pad.
const touch = 5 * time.Minute

// noPIN says how to hand in a PIN.
const noPIN = "give the PIN's file in the URI (pin-source=FILE), or --passphrase-file FILE, or IMPRINT_PASSPHRASE"

// OpenPKCS11 opens a key in a PKCS #11 token: pkcs11:URI (RFC 7512). It is a [kms.Opener]. The token's module is loaded by imprint's
// own plugin notation-pkcs11, a process apart, which is found beside the running program, on PATH, or among the plugins.
//
// That plugin's answers say more than the contract asks for: describe-key tells the public key, the certificates beside it and
// the canonical URI, so that opening costs no signature and a key needs no certificate. The PIN comes from the URI's pin-source,
// or it is asked for once, where the plugin first lacks it: most tokens show a key without, and want it for the first signature. It
// reaches the plugin over stdin alone. A wrong one is never tried twice.
func OpenPKCS11(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	return machine().openPKCS11(ctx, u, o)
}

func (h host) openPKCS11(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	k, err := h.openToken(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", kms.Format(u), err)
	}
	return k, nil
}

func (h host) openToken(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	if _, given := o.Config["pin"]; given {
		return nil, kms.Invalid(kms.CodeSecret, "its plugin-config holds a PIN, which does not belong in a configuration: %s", noPIN)
	}
	path, err := h.findBeside("pkcs11")
	if err != nil {
		return nil, err
	}
	p := h.plugin("pkcs11", path, kms.Format(u), o)
	p.lock = &lock{token: tokenOf(u), secret: o.Secret}
	p.config = map[string]string{}
	maps.Copy(p.config, o.Config)
	p.config["chain"] = "optional"
	if _, err := p.metadata(ctx); err != nil {
		return nil, err
	}
	spec, m, err := p.describe(ctx)
	if err != nil { // most tokens show their keys without a PIN
		if err := p.lock.open(ctx, err); err != nil {
			return nil, err
		}
		if spec, m, err = p.describe(ctx); err != nil {
			return nil, err
		}
	}
	return p.tokenKey(spec, m, u, o)
}

// A lock is what a PIN opens. A nil lock has none.
type lock struct {
	token  string // to people
	secret func(ctx context.Context, prompt string) ([]byte, error)
	pin    atomic.Pointer[string]
	asking sync.Mutex
}

// open gets the PIN that a refusal asks for, so that what was refused can be asked for again. A person is asked once.
func (l *lock) open(ctx context.Context, refused error) error {
	var r *refusal
	if !errors.As(refused, &r) || r.metadata["ask"] != "pin" {
		return refused
	}
	l.asking.Lock()
	defer l.asking.Unlock()
	if l.pin.Load() != nil {
		return nil // somebody else got it meanwhile
	}
	if l.secret == nil {
		return missingPIN("%w", refused)
	}
	token := l.token
	if told := r.metadata["token"]; told != "" { // with the warning that one try is left, if so
		token = kms.Text(told)
	}
	pin, err := l.secret(ctx, fmt.Sprintf("PIN of token %s: ", token))
	defer clear(pin)
	if ctx.Err() != nil { // whoever comes next may ask again
		return fmt.Errorf("asking for the PIN of token %s: %w", l.token, context.Cause(ctx))
	}
	if err != nil {
		return missingPIN("%w; asking for the PIN of token %s: %w", refused, l.token, err)
	}
	if len(pin) == 0 || !utf8.Valid(pin) {
		return missingPIN("the PIN of token %s is empty or not UTF-8", l.token)
	}
	text := string(pin)
	l.pin.Store(&text)
	return nil
}

// with returns config with the PIN, once there is one.
func (l *lock) with(config map[string]string) map[string]string {
	if l == nil || l.pin.Load() == nil {
		return config
	}
	config = maps.Clone(config)
	config["pin"] = *l.pin.Load()
	return config
}

func (l *lock) redact(text string) string {
	if l == nil || l.pin.Load() == nil {
		return text
	}
	return strings.ReplaceAll(text, *l.pin.Load(), "[PIN]")
}

func missingPIN(format string, args ...any) error {
	return kms.Failure(kms.CodeCredentials, noPIN, format, args...)
}

// tokenOf names the token to a person who is asked for its PIN.
func tokenOf(u *url.URL) string {
	for attribute := range strings.SplitSeq(u.Opaque, ";") {
		name, value, _ := strings.Cut(attribute, "=")
		if text, err := url.PathUnescape(value); err == nil && (name == "token" || name == "serial") {
			return kms.Text(text)
		}
	}
	return kms.Format(u)
}

// tokenKey makes the key of what describe-key answered.
func (p *plugin) tokenKey(spec string, m members, u *url.URL, o kms.Options) (kms.Key, error) {
	wrong := func(format string, args ...any) (kms.Key, error) {
		return nil, p.broken("describe-key", format, args...)
	}
	der, err := m.bytes("publicKey")
	if err != nil {
		return wrong("its answer %w", err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return wrong("its answer has a publicKey that cannot be read: %w", err)
	}
	k := &rawKey{plugin: p, public: public, warn: o.Warn, bare: true}
	if k.algorithm, err = kms.AlgorithmOf(public); err != nil {
		return nil, err
	}
	if k.algorithm.Spec != spec {
		return wrong("its keySpec is %s, but its publicKey is a key %s", spec, k.algorithm.Spec)
	}
	if m.has("certificateChain") {
		if k.chain, err = m.chain(); err != nil {
			return wrong("its answer %w", err)
		}
	}
	if len(k.chain) > 0 && !kms.SameKey(public, k.chain[0].PublicKey) {
		return wrong("its certificate (%s) is for another key than its publicKey", kms.Text(k.chain[0].Subject.String()))
	}
	pinned := kms.Format(u)
	if m.has("uri") {
		text, err := m.text("uri")
		if err != nil {
			return wrong("its answer %w", err)
		}
		canonical, err := kms.ParseURI(text)
		if err != nil || canonical.Scheme != "pkcs11" {
			return wrong("its answer has the uri %q, which is no pkcs11 key URI", kms.Text(text))
		}
		pinned = kms.Format(canonical)
	}
	return kms.Remote{
		URI: pinned, Service: "PKCS #11", Public: public,
		Sign: k.sign, Certificates: k.certificates, PKCS1: k.algorithm.PSS, Jobs: pkcs11Jobs, Patience: max(p.patience, touch),
		Careful: true, Unlock: p.lock.open,
	}.Key()
}
