package cmd

import (
	"net/url"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/kms"
)

// A namedKey is an entry of `keys:`.
type namedKey struct {
	uri            string
	chain          []string
	passphraseFile string
	config         map[string]string // for its plugin
}

// keys reads `keys:`: names for keys, each a URI or {uri, chain, passphrase-file, plugin-config}. key is another word for uri.
func (r configReader) keys(n *yaml.Node, c *configuration) error {
	entries, err := r.mapping(n)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isKeyName(e.key.Value) {
			return r.wrong(e.key, "config-malformed", `the name of a key has none of / \ . and :`)
		}
		var k namedKey
		if e.value.Kind == yaml.ScalarNode {
			k.uri, err = r.oneURI(e.value)
		} else {
			k, err = r.key(e)
		}
		if err != nil {
			return err
		}
		c.keys[e.key.Value] = k
	}
	return nil
}

// key reads one entry of `keys:` that is a mapping.
func (r configReader) key(e entry) (namedKey, error) {
	var k namedKey
	var plugin *yaml.Node // `plugin-config:`
	members, err := r.mapping(e.value)
	if err != nil {
		return k, err
	}
	for _, m := range members {
		if err := r.known(m.key, []string{"uri", "key", "chain", "passphrase-file", "plugin-config"}); err != nil {
			return k, err
		}
		switch m.key.Value {
		case "uri", "key":
			if k.uri != "" {
				return k, r.wrong(m.key, "config-duplicate", "`uri:` and `key:` are two words for the same: one of them")
			}
			k.uri, err = r.oneURI(m.value)
		case "chain":
			if k.chain, err = r.strings(m.value); err == nil {
				for i, path := range k.chain {
					k.chain[i] = r.path(path)
				}
			}
		case "passphrase-file":
			var path string
			if path, err = r.one(m.value); err == nil {
				k.passphraseFile = r.path(path)
			}
		case "plugin-config":
			plugin = m.key
			k.config, err = r.texts(m.value)
		}
		if err != nil {
			return k, err
		}
	}
	if k.uri == "" {
		return k, r.wrong(e.key, "config-malformed", "the key %q says no `uri:`", e.key.Value)
	}
	if u, err := kms.ParseURI(k.uri); err == nil && plugin != nil && u.Scheme != "plugin" && u.Scheme != "pkcs11" {
		return k, r.wrong(plugin, "config-malformed", "`plugin-config:` is for keys of plugins, and %s has none", redact(k.uri))
	}
	return k, nil
}

// one reads a single value.
func (r configReader) one(n *yaml.Node) (string, error) {
	values, err := r.strings(n)
	switch {
	case err != nil:
		return "", err
	case len(values) != 1 || values[0] == "":
		return "", r.wrong(n, "config-malformed", "one value is expected here")
	}
	return values[0], nil
}

// oneURI reads the URI of a key.
func (r configReader) oneURI(n *yaml.Node) (string, error) {
	text, err := r.one(n)
	if err != nil {
		return "", err
	}
	return r.uri(n, text)
}

// texts reads a mapping of names to strings. What YAML reads as a number or a truth value would reach a plugin in a form that its
// author did not write.
func (r configReader) texts(n *yaml.Node) (map[string]string, error) {
	entries, err := r.mapping(n)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, e := range entries {
		if err := r.plain(e.value); err != nil {
			return nil, err
		}
		if e.value.Kind != yaml.ScalarNode || e.value.Tag != "!!str" {
			return nil, r.wrong(e.value, "config-malformed", "a text is expected here: write the value of %s in quotes", e.key.Value)
		}
		out[e.key.Value] = e.value.Value
	}
	return out, nil
}

// uri checks a key's URI. A relative path to a file starts at the configuration's folder; the paths inside other URIs are the key
// service's own and stay as they are.
func (r configReader) uri(n *yaml.Node, text string) (string, error) {
	u, err := kms.ParseURI(text)
	switch {
	case err != nil:
		return "", r.wrong(n, kms.CodeURI, "%s", redact(err.Error()))
	case u.Scheme == "":
		return r.path(text), nil
	case u.Scheme == "file":
		return kms.Format(&url.URL{Scheme: "file", Path: filepath.ToSlash(r.path(filepath.FromSlash(u.Path))), OmitHost: true}), nil
	}
	return text, nil
}

// isKeyName reports whether the text after --key is a name under `keys:`, no URI and no path.
func isKeyName(s string) bool { return s != "" && !strings.ContainsAny(s, `/\.:`) }
