package pkcs11

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

// A selector is what a pkcs11: URI asks for (RFC 7512 section 2.3). An empty text means any.
type selector struct {
	token, manufacturer, serial, model                      string
	libraryManufacturer, libraryVersion, libraryDescription string
	slotManufacturer, slotDescription                       string
	slot                                                    *uint
	object                                                  string
	id                                                      []byte
	class                                                   uint // ClassPrivateKey unless type says otherwise

	modulePath, moduleName, pinSource string
}

// parseSelector reads what [kms.ParseURI] let through.
func parseSelector(u *url.URL) (*selector, error) {
	sel := &selector{class: cryptoki.ClassPrivateKey}
	if u.Scheme != "pkcs11" || u.Opaque == "" {
		return nil, kms.Invalid(kms.CodeURI, "it is no pkcs11 key URI: write pkcs11:token=TOKEN;object=KEY")
	}
	texts := map[string]*string{
		"token": &sel.token, "manufacturer": &sel.manufacturer, "serial": &sel.serial, "model": &sel.model,
		"library-manufacturer": &sel.libraryManufacturer, "library-version": &sel.libraryVersion,
		"library-description": &sel.libraryDescription, "slot-manufacturer": &sel.slotManufacturer,
		"slot-description": &sel.slotDescription, "object": &sel.object,
	}
	for pair := range strings.SplitSeq(u.Opaque, ";") {
		name, raw, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(raw)
		if err != nil || value == "" {
			return nil, kms.Invalid(kms.CodeURI, "the pkcs11 key URI has a malformed attribute %q", name)
		}
		switch text := texts[name]; {
		case text != nil:
			*text = value
		case name == "id":
			sel.id = []byte(value)
		case name == "slot-id":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return nil, kms.Invalid(kms.CodeURI, "the pkcs11 key URI has the slot-id %q, which is no number", value)
			}
			slot := uint(n)
			sel.slot = &slot
		case name == "type":
			if err := sel.setClass(value); err != nil {
				return nil, err
			}
		default:
			return nil, kms.Invalid(kms.CodeURI, "the pkcs11 key URI has the unknown attribute %q", name)
		}
	}
	q := u.Query()
	sel.modulePath, sel.moduleName, sel.pinSource = q.Get("module-path"), q.Get("module-name"), q.Get("pin-source")
	return sel, nil
}

// setClass: any part of a key pair names the pair; people copy URIs from p11tool, which lists all parts.
func (sel *selector) setClass(typ string) error {
	switch typ {
	case "private":
	case "public":
		sel.class = cryptoki.ClassPublicKey
	case "cert":
		sel.class = cryptoki.ClassCertificate
	default:
		return kms.Invalid(kms.CodeURI, "the pkcs11 key URI asks for an object of type %q: a key that signs has the type private", typ)
	}
	return nil
}

// wantsObject says which object is asked for, to people.
func (sel *selector) wantsObject() string {
	var parts []string
	if sel.object != "" {
		parts = append(parts, fmt.Sprintf("object %q", sel.object))
	}
	if len(sel.id) > 0 {
		parts = append(parts, "id "+percent(sel.id))
	}
	if len(parts) == 0 {
		return "any key"
	}
	return strings.Join(parts, " and ")
}

// wantsToken says which token is asked for, to people.
func (sel *selector) wantsToken() string {
	var parts []string
	for _, a := range []struct{ name, value string }{
		{"token", sel.token}, {"serial", sel.serial}, {"manufacturer", sel.manufacturer}, {"model", sel.model},
		{"slot-manufacturer", sel.slotManufacturer}, {"slot-description", sel.slotDescription},
	} {
		if a.value != "" {
			parts = append(parts, fmt.Sprintf("%s %q", a.name, a.value))
		}
	}
	if sel.slot != nil {
		parts = append(parts, fmt.Sprintf("slot-id %d", *sel.slot))
	}
	if len(parts) == 0 {
		return "any"
	}
	return strings.Join(parts, " and ")
}

// template is the search for objects of a class that the URI names.
func (sel *selector) template(class uint) []cryptoki.Attribute {
	t := []cryptoki.Attribute{cryptoki.Number(cryptoki.AttrClass, class)}
	if sel.object != "" {
		t = append(t, cryptoki.Attribute{Type: cryptoki.AttrLabel, Value: []byte(sel.object)})
	}
	if len(sel.id) > 0 {
		t = append(t, cryptoki.Attribute{Type: cryptoki.AttrID, Value: sel.id})
	}
	return t
}

// matches reports whether want is empty or what is there.
func matches(want, have string) bool { return want == "" || want == have }

func (sel *selector) matchesLibrary(i cryptoki.Info) bool {
	return matches(sel.libraryManufacturer, i.Manufacturer) && matches(sel.libraryDescription, i.Description) &&
		matches(sel.libraryVersion, i.Version)
}

func (sel *selector) matchesToken(slot uint, s cryptoki.SlotInfo, t cryptoki.TokenInfo) bool {
	return (sel.slot == nil || *sel.slot == slot) && matches(sel.slotManufacturer, s.Manufacturer) &&
		matches(sel.slotDescription, s.Description) && matches(sel.token, t.Label) && matches(sel.manufacturer, t.Manufacturer) &&
		matches(sel.serial, t.Serial) && matches(sel.model, t.Model)
}

// triples are the folders' names of Debian's architectures.
var triples = map[string]string{
	"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "loong64": "loongarch64-linux-gnu",
	"ppc64le": "powerpc64le-linux-gnu", "riscv64": "riscv64-linux-gnu",
}

// libraries are the folders in which modules are installed, best first. Nothing of the working folder or the environment is.
func libraries() []string {
	if runtime.GOOS == "darwin" {
		return []string{"/opt/homebrew/lib", "/usr/local/lib"}
	}
	return []string{"/usr/lib/" + triples[runtime.GOARCH], "/usr/lib64", "/usr/lib", "/usr/local/lib"}
}

// module returns the path of the module: module-path if that is a file; module-name in the folder that module-path names, or in
// those of [libraries]; without either p11-kit's proxy, which shows the tokens of every module that the system knows.
func (sel *selector) module() (string, error) {
	folders := libraries()
	var files []string
	switch {
	case sel.modulePath != "":
		if !filepath.IsAbs(sel.modulePath) {
			return "", kms.Invalid(kms.CodeURI, "module-path=%s is not absolute: a module is never looked for in the working folder", sel.modulePath)
		}
		if !isFolder(sel.modulePath) {
			return sel.modulePath, nil // loading it says what is wrong with it
		}
		folders = []string{sel.modulePath}
		if sel.moduleName == "" {
			return "", kms.Invalid(kms.CodeURI, "module-path=%s is a folder: name the module's file, or add module-name=NAME", sel.modulePath)
		}
	case sel.moduleName == "":
		for _, folder := range folders {
			files = append(files, filepath.Join(folder, "p11-kit-proxy"+suffix()))
		}
		files = append(files, filepath.Join(folders[0], "libp11-kit.so.0")) // the same, under the name without a -dev package
	}
	if sel.moduleName != "" {
		if strings.ContainsAny(sel.moduleName, `/\`) || strings.HasPrefix(sel.moduleName, ".") {
			return "", kms.Invalid(kms.CodeURI, "module-name=%s is no name: write module-path=FILE for a path", sel.moduleName)
		}
		for _, folder := range folders {
			for _, sub := range []string{"", "pkcs11", sel.moduleName, "softhsm"} {
				for _, prefix := range []string{"", "lib"} {
					files = append(files, filepath.Join(folder, sub, prefix+sel.moduleName+suffix()))
				}
			}
		}
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	what := "p11-kit-proxy"
	if sel.moduleName != "" {
		what = "module-name=" + sel.moduleName
	}
	return "", problem(kms.CodeUnreachable, "name the module's file: ?module-path=/usr/lib/…/libsofthsm2.so",
		"there is no PKCS #11 module %s in %s", what, strings.Join(folders, ", "))
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func suffix() string {
	if runtime.GOOS == "darwin" {
		return ".dylib"
	}
	return ".so"
}
