// Package notationplugin signs with Notary Project signing plugins: executables that answer one request each, by version 1.0 of the
// plugin contract (plugin specification, "plugin-extensibility.md").
//
// A plugin is plugins/NAME/notation-NAME in notation's folders, and is believed nothing: its output is bounded, its answers are
// parsed strictly, and it is ended with all that it started when it neither answers nor leaves. Its metadata and its key are asked
// for once per key, then every signature is one process.
//
// A plugin that makes signatures tells its public key by the certificates that come with a signature, and in no other way. Unless
// [kms.Options].Leaf says which key to expect, opening it therefore costs one signature over random bytes, which is counted.
package notationplugin

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/kms"
)

// patience is how long one process may take. Plugins ask key services over networks, and repeat that by themselves.
const patience = 30 * time.Second

// jobs bounds the processes at once of one key.
const jobs = 16

// A host is where plugins run: this machine, or what a test makes of it.
type host struct {
	getenv     func(string) string
	environ    func() []string
	executable func() (string, error) // the running program
	config     func() (string, error) // the person's configuration folder
	system     string                 // where the system keeps plugins; "" nowhere
	patience   time.Duration
}

func machine() host {
	h := host{os.Getenv, os.Environ, os.Executable, os.UserConfigDir, "", patience}
	if runtime.GOOS != "windows" {
		h.system = "/usr/libexec/notation"
	}
	return h
}

// Open opens the key that a signing plugin knows by an id: plugin:NAME?id=ID. It is a [kms.Opener]. Of a plugin that makes
// envelopes only, the key is a [kms.EnvelopeSigner].
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	return machine().open(ctx, u, o)
}

func (h host) open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	k, err := h.openPlugin(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", kms.Format(u), err)
	}
	return k, nil
}

func (h host) openPlugin(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	name, id := u.Opaque, u.Query().Get("id")
	if !pluginName().MatchString(name) || id == "" {
		return nil, kms.Invalid(kms.CodeURI, "it names no key of a plugin: write plugin:NAME?id=KEY")
	}
	path, err := h.find(name)
	if err != nil {
		return nil, err
	}
	p := h.plugin(name, path, id, o)
	capabilities, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(capabilities, "SIGNATURE_GENERATOR.RAW"):
		return p.openRaw(ctx, u, o)
	case slices.Contains(capabilities, "SIGNATURE_GENERATOR.ENVELOPE"):
		return newEnvelopeKey(p, u, o)
	}
	return nil, p.broken("get-plugin-metadata", "it does not sign: its capabilities are %s", kms.Text(strings.Join(capabilities, ", ")))
}

// pluginName is narrower than what file systems and the specification allow: a name is a folder's, and never leads out of it.
var pluginName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`) })

// A plugin is one executable, as it is asked about one key.
type plugin struct {
	name     string
	path     string
	id       string            // keyId
	config   map[string]string // pluginConfig of every request; never changed
	environ  []string
	patience time.Duration
	url      string // of its documentation, once its metadata is known
	lock     *lock  // of notation-pkcs11, whose errors say more; nil: another plugin
}

func (h host) plugin(name, path, id string, o kms.Options) *plugin {
	return &plugin{name: name, path: path, id: id, config: o.Config, environ: withoutSecrets(h.environ()), patience: h.patience}
}

// withoutSecrets leaves out what is imprint's alone: a plugin has no use for the passphrase, and /proc shows its environment.
func withoutSecrets(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return strings.EqualFold(name, "IMPRINT_PASSPHRASE")
	})
}
