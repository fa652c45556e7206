package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"go.yaml.in/yaml/v4"
)

// maxConfig limits a configuration file, bytes.
const maxConfig = 1 << 20

// A configuration is one configuration file: values of flags, and keys by name.
type configuration struct {
	file   string // "" if there is none
	values map[string]configValue
	keys   map[string]namedKey
}

// A configValue is what the file says of one flag.
type configValue struct {
	values []string
	line   int
}

// A configError is what is wrong in a configuration file, and where.
type configError struct {
	file         string
	line, column int
	code         string
	why          string
}

func (e *configError) Error() string {
	if e.line == 0 {
		return fmt.Sprintf("%s: %s", e.file, e.why)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.file, e.line, e.column, e.why)
}
func (e *configError) Reason() string { return e.code }
func (e *configError) exitCode() int  { return exitUsage }

// home returns the user's home folder, "" if the environment names none.
func (e Env) home() string {
	if home := e.Getenv("HOME"); home != "" || runtime.GOOS != "windows" {
		return home
	}
	return e.Getenv("USERPROFILE")
}

// userDir returns the user's configuration folder of imprint. A relative one would be read from the working folder, and a checkout
// must not choose a key, a plugin or an endpoint.
func (e Env) userDir() (string, error) {
	base, name := e.Getenv("XDG_CONFIG_HOME"), "XDG_CONFIG_HOME"
	if base == "" {
		home := e.home()
		if home == "" {
			return "", usageHint("set HOME, or name the file: --config FILE",
				"looking for the configuration: neither HOME nor XDG_CONFIG_HOME is set")
		}
		base, name = filepath.Join(home, ".config"), "HOME"
	}
	if !filepath.IsAbs(base) {
		return "", usageHint("set it to an absolute path, or name the file: --config FILE",
			"looking for the configuration: %s is not an absolute path", name)
	}
	return filepath.Join(base, "imprint"), nil
}

// systemDir returns the machine's configuration folder.
func (e Env) systemDir() string {
	if e.SystemDir != "" {
		return e.SystemDir
	}
	return "/etc/imprint"
}

// configFile finds the one configuration file: named, else the user's, else the machine's; "" if there is none.
func (s *session) configFile() (string, error) {
	if named := s.config; named != "" {
		return named, nil
	}
	if named := s.env.Getenv("IMPRINT_CONFIG"); named != "" {
		return named, nil
	}
	user, err := s.env.userDir()
	if err != nil {
		return "", err
	}
	for _, dir := range []string{user, s.env.systemDir()} {
		file := filepath.Join(dir, "config.yaml")
		_, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", usageHint("it takes the right to look there; another folder: XDG_CONFIG_HOME; one file: --config FILE",
				"looking for the configuration: %w", err)
		}
		if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return "", &configError{file: dir, code: "config-unsafe",
				why: "is a symbolic link: name the file that is meant with --config or IMPRINT_CONFIG"}
		}
		return file, nil
	}
	return "", nil
}

// checkOwnership refuses a file that anybody could have written.
func checkOwnership(file string) error {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return usage("reading the configuration: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return usage("reading the configuration: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return &configError{file: file, code: "config-unsafe", why: "anybody may write to it: chmod o-w"}
	}
	dir, err := os.Stat(filepath.Dir(real))
	if err != nil {
		return usage("reading the configuration: %w", err)
	}
	if dir.Mode().Perm()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0 {
		return &configError{file: file, code: "config-unsafe",
			why: fmt.Sprintf("anybody may write to its folder %s: chmod o-w", filepath.Dir(real))}
	}
	return nil
}

// loadConfig reads a configuration file strictly. known are the names of all flags that it may set.
func (s *session) loadConfig(file string, known []string) (*configuration, error) {
	b, err := readAs("the configuration "+file, file, maxConfig)
	if err != nil {
		return nil, err
	}
	if err := checkOwnership(file); err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, usage("reading the configuration: %w", err)
	}
	c := &configuration{file: absolute, values: map[string]configValue{}, keys: map[string]namedKey{}}
	r := configReader{file: file, dir: filepath.Dir(absolute)}
	return c, r.read(b, c, known)
}

// A configReader turns YAML into a configuration; relative paths start in dir.
type configReader struct{ file, dir string }

func (r configReader) wrong(n *yaml.Node, code, format string, args ...any) error {
	return &configError{r.file, n.Line, n.Column, code, fmt.Sprintf(format, args...)}
}

func (r configReader) read(b []byte, c *configuration, known []string) error {
	var documents []yaml.Node
	if err := yaml.Load(b, &documents, yaml.WithAllDocuments()); err != nil {
		var load *yaml.LoadError
		if errors.As(err, &load) {
			return &configError{r.file, load.Mark.Line, load.Mark.Column, "config-malformed", load.Message}
		}
		return &configError{file: r.file, code: "config-malformed", why: err.Error()}
	}
	if len(documents) == 0 || len(documents[0].Content) == 0 {
		return nil
	}
	if len(documents) > 1 {
		return r.wrong(documents[1].Content[0], "config-malformed", "a second document starts here; a configuration is one")
	}
	top := documents[0].Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil
	}
	entries, err := r.mapping(top)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.key.Value == "keys" {
			if err := r.keys(e.value, c); err != nil {
				return err
			}
			continue
		}
		if neverAmbient(e.key.Value) {
			return r.wrong(e.key, "config-refused", "%q is never taken from a file: pass --%s", e.key.Value, e.key.Value)
		}
		if err := r.known(e.key, append([]string{"keys"}, known...)); err != nil {
			return err
		}
		values, err := r.strings(e.value)
		if err != nil {
			return err
		}
		for i, v := range values {
			if values[i], err = r.located(e.key.Value, e.value, v); err != nil {
				return err
			}
		}
		c.values[e.key.Value] = configValue{values, e.key.Line}
	}
	return nil
}

type entry struct{ key, value *yaml.Node }

// mapping returns the entries of a plain mapping: no anchors, no merges, no tags, no key twice.
func (r configReader) mapping(n *yaml.Node) ([]entry, error) {
	if n.Kind != yaml.MappingNode {
		return nil, r.wrong(n, "config-malformed", "expected `name: value` lines")
	}
	if err := r.plain(n); err != nil {
		return nil, err
	}
	seen := map[string]*yaml.Node{}
	var out []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag != "!!str" {
			return nil, r.wrong(k, "config-malformed", "a name is expected here")
		}
		if err := r.plain(k); err != nil {
			return nil, err
		}
		if first := seen[k.Value]; first != nil {
			return nil, r.wrong(k, "config-duplicate", "%q stands twice: already in line %d", k.Value, first.Line)
		}
		seen[k.Value] = k
		out = append(out, entry{k, v})
	}
	return out, nil
}

// plain refuses what a reader of the file would not see at once.
func (r configReader) plain(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Tag == "!!merge" {
		return r.wrong(n, "config-malformed", "anchors, aliases and merge keys are not used here")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return r.wrong(n, "config-malformed", "tags are not used here")
	}
	return nil
}

func (r configReader) known(key *yaml.Node, names []string) error {
	if slices.Contains(names, key.Value) {
		return nil
	}
	if near := nearest(key.Value, names); near != "" {
		return r.wrong(key, "config-unknown-key", "unknown key %q, did you mean %q?", key.Value, near)
	}
	return r.wrong(key, "config-unknown-key", "unknown key %q", key.Value)
}

func (r configReader) strings(n *yaml.Node) ([]string, error) {
	if err := r.plain(n); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return nil, r.wrong(n, "config-malformed", "a value is missing")
		}
		return []string{n.Value}, nil
	case yaml.SequenceNode:
		var out []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, r.wrong(item, "config-malformed", "a plain value is expected here")
			}
			v, err := r.strings(item)
			if err != nil {
				return nil, err
			}
			out = append(out, v...)
		}
		return out, nil
	}
	return nil, r.wrong(n, "config-malformed", "a value or a list of values is expected here")
}

// located makes a relative path start at the file's folder, where the flag's value is a path.
func (r configReader) located(flag string, n *yaml.Node, value string) (string, error) {
	switch {
	case flag == "key" && !isKeyName(value) && value != "":
		return r.uri(n, value)
	case pathFlags[flag]:
		return r.path(value), nil
	}
	return value, nil
}

// path makes a relative path start at the file's folder.
func (r configReader) path(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.dir, path)
}
