// Package vault opens keys of the transit engine of HashiCorp Vault and of OpenBao.
//
// Where the server is, whom it trusts and who asks comes from the variables that their own tools read, BAO_… before VAULT_…, and
// from the token that `vault login` keeps. The token goes to that one server and nowhere else: redirects are not followed.
package vault

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/openbao/openbao/api/v2"

	"github.com/imprint-oci/imprint/kms"
)

// maxAnswer bounds an answer of the server, bytes. A key that is rotated daily has a few thousand versions.
const maxAnswer = 8 << 20

// An engine is one transit engine, as one token sees it.
type engine struct {
	client *api.Client
	names  names
	place  place
	token  string // only to keep it out of what is said
	// elsewhere: the variables name a server, for which the token is, and the key URI names another.
	elsewhere bool
}

// names are what people know the two products by.
type names struct {
	service string // "Vault"
	tool    string // "vault"
	env     string // "VAULT_", the prefix that hints name first
	other   string // "BAO_"
}

// A place is where a key is.
type place struct {
	address   string // of the server, without user information
	mount     string // without slashes around it; mounts nest
	name      string
	version   int // 0: the latest
	namespace string
}

// Open opens hashivault:// and openbao:// keys: it reads the key once, and pins the version that the URI names, else the latest.
// A token that may sign but not read can open a key whose URI names the version if [kms.Options].Leaf tells its public key.
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	k, err := open(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", kms.Format(u), err)
	}
	return k, nil
}

func open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	e, err := newEngine(ctx, u, o)
	if err != nil {
		return nil, err
	}
	r := kms.Remote{Service: e.names.service, Sign: e.sign}
	r.Public, r.Certificates, err = e.describe(ctx, o.Leaf)
	if err != nil {
		return nil, err
	}
	_, r.PKCS1 = r.Public.(*rsa.PublicKey)
	r.Version = strconv.Itoa(e.place.version)
	r.URI = e.uri(u)
	return r.Key()
}

// uri is the URI given, with mount and version said.
func (e *engine) uri(u *url.URL) string {
	q := u.Query()
	q.Set("mount", e.place.mount)
	q.Set("version", strconv.Itoa(e.place.version))
	pinned := *u
	pinned.RawQuery = q.Encode()
	return kms.Format(&pinned)
}

// describe pins the version and returns its public key, and what returns its certificates.
func (e *engine) describe(ctx context.Context, leaf crypto.PublicKey) (crypto.PublicKey, func(context.Context) ([]*x509.Certificate, error), error) {
	var k transitKey
	err := kms.Ask(ctx, kms.DefaultPatience, func(ctx context.Context) error {
		return e.ask(ctx, http.MethodGet, "keys", nil, &k)
	})
	var denied *kms.Error
	if errors.As(err, &denied) && denied.Code == kms.CodeDenied && e.place.version > 0 && leaf != nil {
		// The token may not read, but perhaps sign; that a signature is this key's is verified anyway.
		return leaf, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	v, err := k.version(e)
	if err != nil {
		return nil, nil, err
	}
	pub, err := v.public()
	if err != nil {
		return nil, nil, kms.Service("%s answered with a public key of %s version %d that cannot be read: %w", e.at(), e.path("keys"), e.place.version, err)
	}
	return pub, func(context.Context) ([]*x509.Certificate, error) {
		certs, err := v.CertificateChain.parse()
		if err != nil {
			return nil, kms.Service("%s keeps a certificate chain of %s version %d that cannot be read: %w", e.at(), e.path("keys"), e.place.version, err)
		}
		return certs, nil
	}, nil
}

func newEngine(ctx context.Context, u *url.URL, o kms.Options) (*engine, error) {
	e := &engine{names: names{"Vault", "vault", "VAULT_", "BAO_"}}
	if u.Scheme == "openbao" {
		e.names = names{"OpenBao", "bao", "BAO_", "VAULT_"}
	}
	var err error
	if e.place, err = placeOf(u); err != nil {
		return nil, err
	}
	if err := e.connect(u.Query().Get("addr"), o); err != nil {
		return nil, err
	}
	if ns := u.Query().Get("namespace"); ns != "" {
		e.client.SetNamespace(ns)
	}
	e.place.namespace = e.client.Namespace()
	if e.token, err = e.findToken(ctx); err != nil {
		return nil, err
	}
	e.client.SetToken(e.token)
	if o.Warn == nil || e.token == "" {
		return e, nil
	}
	if plainHTTP(e.place.address) {
		o.Warn(fmt.Sprintf("the token goes to %s without encryption", e.at()))
	}
	if e.elsewhere {
		o.Warn(fmt.Sprintf("the token goes to %s, as the key URI says, not to the server of %s", e.at(), e.names.either("ADDR")))
	}
	return e, nil
}

// A mount with dots alone would end at another engine than the one that is named, since the client cleans paths; the rest is what
// [kms.ParseURI] takes, so that a pinned URI can be given back.
var (
	mountPath = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)
	})
	versionNumber = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[1-9][0-9]{0,8}$`) })
)

// placeOf reads the URI; the mount may also come from where sigstore looks for it.
func placeOf(u *url.URL) (place, error) {
	q := u.Query()
	p := place{name: u.Host, mount: q.Get("mount")}
	from := "the key URI"
	if p.mount == "" {
		p.mount, from = os.Getenv("TRANSIT_SECRET_ENGINE_PATH"), "TRANSIT_SECRET_ENGINE_PATH"
	}
	if p.mount == "" {
		p.mount = "transit"
	}
	p.mount = strings.Trim(p.mount, "/")
	if !mountPath().MatchString(p.mount) {
		return place{}, kms.Invalid(kms.CodeURI, "the mount %q in %s is no path of a secrets engine: write transit, or team/a/transit", p.mount, from)
	}
	if v := q.Get("version"); v != "" {
		if !versionNumber().MatchString(v) {
			return place{}, kms.Invalid(kms.CodeURI, "version %q of a transit key is no number from 1 on", v)
		}
		p.version, _ = strconv.Atoi(v)
	}
	return p, nil
}

// path names what is asked for below the mount, as policies do.
func (e *engine) path(operation string) string {
	return e.place.mount + "/" + operation + "/" + e.place.name
}

// at names the server and the namespace.
func (e *engine) at() string {
	at := e.names.service + " at " + e.place.address
	if e.place.namespace != "" {
		at += " (namespace " + e.place.namespace + ")"
	}
	return at
}
