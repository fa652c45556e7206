package notationplugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/kms"
)

// folders are where plugins are installed, the first first: notation's own variable, its configuration folders, and the system's.
// A variable that holds a relative path is ignored (XDG base directory specification): nothing runs from the working folder.
func (h host) folders() []string {
	var dirs []string
	add := func(dir string) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	add(h.getenv("NOTATION_LIBEXEC"))
	if xdg := h.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(xdg) {
		add(filepath.Join(xdg, "notation"))
	}
	if home := h.getenv("HOME"); filepath.IsAbs(home) {
		add(filepath.Join(home, ".config", "notation"))
	}
	if dir, err := h.config(); err == nil {
		add(filepath.Join(dir, "notation")) // macOS and Windows have another
	}
	add(h.system)
	return dirs
}

// find returns the executable of a plugin: the first that is there counts, even if it cannot be used.
func (h host) find(name string) (string, error) {
	dirs := h.folders()
	for _, dir := range dirs {
		path := h.in(dir, name)
		info, err := os.Lstat(path) // the specification takes no links
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = executable(info)
		}
		if err != nil {
			return "", unusable(path, err)
		}
		return path, nil
	}
	remedy := "install it with `notation plugin install`"
	if len(dirs) > 0 {
		remedy += ", or put its executable at " + h.in(dirs[0], name)
	}
	return "", kms.Failure(kms.CodePlugin, remedy, "no plugin %s is installed: there is no %s in plugins/%s of %s", name, binary(name), name, places(dirs))
}

func (h host) in(dir, name string) string { return filepath.Join(dir, "plugins", name, binary(name)) }

// findBeside returns the executable of a plugin of imprint's own: beside the running program, on PATH, or in the plugin folders.
func (h host) findBeside(name string) (string, error) {
	var dirs []string
	if self, err := h.executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			dirs = append(dirs, filepath.Dir(self))
		}
	}
	for _, dir := range filepath.SplitList(h.getenv("PATH")) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, binary(name))
		if info, err := os.Stat(path); err == nil && executable(info) == nil {
			return path, nil
		}
	}
	path, err := h.find(name)
	if err == nil || errors.Is(err, errUnusable) {
		return path, err
	}
	own := binary(name)
	return "", kms.Failure(kms.CodePlugin,
		fmt.Sprintf("install it with `go install github.com/imprint-oci/imprint/cmd/notation-%s@latest`, or put %s beside imprint", name, own),
		"no executable %s is beside this program (%s), on PATH, or in plugins/%s of %s", own, places(dirs[:min(1, len(dirs))]), name, places(h.folders()))
}

var (
	errUnusable      = errors.New("not a plugin")
	errNotExecutable = errors.New("it is not executable")
)

func unusable(path string, why error) error {
	remedy := ""
	if errors.Is(why, errNotExecutable) {
		remedy = "make it executable: `chmod +x " + path + "`"
	}
	return kms.Failure(kms.CodePlugin, remedy, "%w: %s: %w", errUnusable, path, why)
}

// executable says why a file cannot be run as a plugin.
func executable(info fs.FileInfo) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return errors.New("it is a symbolic link, where the plugin specification wants a regular file")
	case !info.Mode().IsRegular():
		return errors.New("it is no regular file")
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o111 == 0:
		return errNotExecutable
	}
	return nil
}

func binary(name string) string {
	if runtime.GOOS == "windows" {
		return "notation-" + name + ".exe"
	}
	return "notation-" + name
}

func places(dirs []string) string {
	if len(dirs) == 0 {
		return "no folder at all"
	}
	return strings.Join(dirs, ", ")
}
