package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// A Key is what can be known of a key without its private part.
type Key struct {
	Key       string `json:"key"`                 // as it was named, in canonical form and without secrets: --key takes it
	ID        string `json:"id,omitempty"`        // what it calls itself: a file's path, or the URI of exactly this version
	Service   string `json:"service,omitempty"`   // as AWS KMS
	Version   string `json:"version,omitempty"`   // of the key at its service
	Spec      string `json:"spec,omitempty"`      // as RSA-3072, EC-256
	Algorithm string `json:"algorithm,omitempty"` // as PS384, ES256
	PKCS1     bool   `json:"pkcs1,omitempty"`     // it can also sign certificate requests with PKCS #1 v1.5
	Envelopes bool   `json:"envelopes,omitempty"` // it makes whole signature envelopes, and tells its public key in them alone
	SHA256    string `json:"spkiSHA256,omitempty"`
	PublicKey string `json:"publicKey,omitempty"` // PEM
}

// spec is the kind of the key and how it signs.
func (k Key) spec() string {
	if k.Spec == "" {
		return "tells its public key and its algorithm with each signature"
	}
	return k.Spec + ", signs " + k.Algorithm
}

// place writes where the key is.
func (k Key) place(w io.Writer) {
	if k.Service != "" {
		at := k.Service
		if k.Version != "" {
			at += ", version " + k.Version
		}
		field(w, 2, "service", at)
	}
	if k.ID != "" {
		whole(w, 2, "id", k.ID)
	}
}

// A Kept is what certificates are kept beside a key.
type Kept struct {
	Certificates int                    `json:"certificates"`
	Leaf         *certchain.Certificate `json:"leaf,omitempty"` // for this key
	Complete     bool                   `json:"complete"`       // from the leaf to a root
}

// A ShownKey is what `key show` says.
type ShownKey struct {
	Key
	Kept   *Kept `json:"kept,omitempty"` // nil: it was not asked for, or could not be
	Probed bool  `json:"probed"`         // a signature was made, and it verifies
	Calls  int   `json:"keyCalls"`
}

// KeyShow writes what a key is.
func KeyShow(w io.Writer, k ShownKey, now time.Time) {
	headline(w, good, "usable", k.Key.Key, "")
	if k.SHA256 != "" {
		under(w, "usable", "sha256:"+k.SHA256)
	}
	fmt.Fprintln(w)
	k.place(w)
	field(w, 2, "key", k.spec())
	switch {
	case strings.HasPrefix(k.Spec, "RSA") && k.PKCS1:
		field(w, 2, "requests", "signed with PSS, or with PKCS #1 v1.5 (key csr --pkcs1)")
	case strings.HasPrefix(k.Spec, "RSA"):
		field(w, 2, "requests", "signed with PSS; it cannot sign with PKCS #1 v1.5")
	}
	switch {
	case k.Envelopes:
		field(w, 2, "chain", "comes with each signature")
	case k.Kept != nil:
		field(w, 2, "chain", k.Kept.text())
		if leaf := k.Kept.Leaf; leaf != nil {
			field(w, 2, "leaf", fmt.Sprintf("%s, until %s (%s)", leaf.Subject, day(leaf.NotAfter), left(leaf.NotAfter, now)))
		}
	case k.Service != "":
		field(w, 2, "chain", "what is kept beside the key could not be had: see the warning")
	}
	switch {
	case k.Probed:
		field(w, 2, "probe", "it signed a random message, and the signature verifies")
	case k.Envelopes:
		field(w, 2, "probe", "not made: it makes whole signature envelopes, and signs nothing else")
	default:
		field(w, 2, "probe", "not made: whether it may sign was not tried (--probe)")
	}
	fmt.Fprintln(w)
	if k.Service != "" {
		fmt.Fprintf(w, "%s to the key service\n", plural(k.Calls, "signing call"))
		return
	}
	fmt.Fprintln(w, Uses(k.Key, k.Calls))
}

// Uses counts the uses of a key: calls to its service, or uses of a key in a file.
func Uses(k Key, n int) string {
	if k.Service != "" {
		return plural(n, "call") + " to the key service"
	}
	return plural(n, "use") + " of the key"
}

func (k Kept) text() string {
	n := plural(k.Certificates, "certificate") + " kept beside the key"
	switch {
	case k.Certificates == 0:
		return "no certificate is kept beside the key: imprint sign takes it from --chain FILE"
	case k.Leaf == nil:
		return n + ", none of them for it: imprint sign takes its own from --chain FILE"
	case !k.Complete:
		return n + ", issuers are missing: imprint sign takes them from --chain FILE"
	}
	return n + ", from the leaf to the root"
}

// A GeneratedKey is a new key in a file.
type GeneratedKey struct {
	File      string `json:"file"`
	Encrypted bool   `json:"encrypted"`
	Key       Key    `json:"key"`
}

// KeyGenerate writes which key was made, and how to come to a certificate for it.
func KeyGenerate(w io.Writer, g GeneratedKey) {
	headline(w, good, "generated", g.File, "")
	under(w, "generated", "sha256:"+g.Key.SHA256)
	fmt.Fprintln(w)
	field(w, 2, "key", g.Key.spec())
	if g.Encrypted {
		field(w, 2, "file", "encrypted with the passphrase, mode 0600")
	} else {
		field(w, 2, "file", "NOT encrypted, mode 0600: whoever can read it can sign")
	}
	next(w, "a certificate for it, from a CA or self-signed",
		[]string{"key", "csr", g.Key.Key, "--subject", "C=DE, ST=BE, O=Acme, CN=release", "--out", "release.csr"},
		[]string{"key", "self-sign", g.Key.Key, "--subject", "C=DE, ST=BE, O=Acme, CN=release", "--out", "release.pem"})
	fmt.Fprintln(w, "\n1 file written")
}

// A DevelopmentFolder is what `key generate --dev` made.
type DevelopmentFolder struct {
	Development bool      `json:"development"`
	Folder      string    `json:"folder"`
	Files       []File    `json:"files"`
	Identity    string    `json:"identity"`
	Key         Key       `json:"key"`
	HoldsUntil  time.Time `json:"holdsUntil"`
}

// A File is a file that was written, and what it is.
type File struct {
	Path string `json:"path"`
	What string `json:"what"`
}

// KeyDevelopment writes what was made for development, and the first commands to try it with.
func KeyDevelopment(w io.Writer, d DevelopmentFolder, now time.Time) {
	headline(w, good, "generated", d.Folder+": DEVELOPMENT ONLY", "")
	under(w, "generated", "whoever reads its key can sign as it: trust its root nowhere in earnest")
	fmt.Fprintln(w)
	field(w, 2, "identity", d.Identity)
	field(w, 2, "key", d.Key.spec()+"; not encrypted, mode 0600")
	field(w, 2, "holds until", fmt.Sprintf("%s (%s)", day(d.HoldsUntil), left(d.HoldsUntil, now)))
	fmt.Fprintln(w)
	var rows [][]string
	path := map[string]string{}
	for _, f := range d.Files {
		rows = append(rows, []string{f.Path, f.What})
		path[f.Path[strings.LastIndexAny(f.Path, `/\`)+1:]] = f.Path
	}
	table(w, []column{{head: "FILE"}, {head: "WHAT"}}, rows)
	next(w, "publish into the OCI layout app, and verify there",
		[]string{"publish", "oci-archive:app.tar", "oci:app:1.0", "--key", d.Key.Key, "--chain", path["chain.pem"]},
		[]string{"verify", "oci:app:1.0", "--root", path["root.pem"]})
	next(w, "in a registry, by the policy",
		[]string{"verify", "HOST/REPO:TAG", "--policy", path["policy.yaml"]})
	fmt.Fprintf(w, "\n%s written\n", plural(len(d.Files), "file"))
}

// A Request is a certificate request that was made.
type Request struct {
	Out     string   `json:"out,omitempty"`
	Subject string   `json:"subject"`
	SANs    []string `json:"sans,omitempty"`
	Key     Key      `json:"key"`
	PKCS1   bool     `json:"pkcs1,omitempty"` // it is signed with PKCS #1 v1.5
	Calls   int      `json:"keyCalls"`
	PEM     string   `json:"request"`
}

// KeyRequest writes which request was made, and what a CA is to make of it.
func KeyRequest(w io.Writer, r Request) {
	headline(w, good, "requested", r.Out, "")
	under(w, "requested", "sha256:"+r.Key.SHA256+" (public key)")
	fmt.Fprintln(w)
	field(w, 2, "subject", r.Subject)
	if len(r.SANs) > 0 {
		field(w, 2, "names", strings.Join(r.SANs, ", "))
	}
	if r.Key.Service != "" {
		r.Key.place(w)
	}
	field(w, 2, "key", r.Key.spec())
	if r.PKCS1 {
		field(w, 2, "signed with", "PKCS #1 v1.5; artifacts are signed with PSS all the same")
	}
	field(w, 2, "asks for", "key usage digitalSignature (critical), extended key usage codeSigning")
	next(w, "send it to a CA; with what comes back and the CA's certificates up to its root",
		[]string{"chain", "build", "CERTIFICATES…", "--key", r.Key.Key, "--out", "chain.pem"},
		[]string{"sign", "REF", "--key", r.Key.Key, "--chain", "chain.pem"})
	fmt.Fprintf(w, "\n1 file written; %s\n", Uses(r.Key, r.Calls))
}

// A SelfSigned is a self-signed certificate that was made.
type SelfSigned struct {
	Out         string                `json:"out,omitempty"`
	SANs        []string              `json:"sans,omitempty"`
	Key         Key                   `json:"key"`
	Certificate certchain.Certificate `json:"certificate"`
	Calls       int                   `json:"keyCalls"`
	PEM         string                `json:"pem"`
}

// KeySelfSign writes which certificate was made, and what it is good for.
func KeySelfSign(w io.Writer, c SelfSigned, now time.Time) {
	headline(w, good, "self-signed", c.Out, "")
	under(w, "self-signed", "sha256:"+c.Certificate.Thumbprint)
	fmt.Fprintln(w)
	field(w, 2, "identity", c.Certificate.Subject)
	if len(c.SANs) > 0 {
		field(w, 2, "names", strings.Join(c.SANs, ", "))
	}
	if c.Key.Service != "" {
		c.Key.place(w)
	}
	field(w, 2, "key", c.Key.spec())
	field(w, 2, "holds until", fmt.Sprintf("%s (%s)", day(c.Certificate.NotAfter), left(c.Certificate.NotAfter, now)))
	field(w, 2, "to note", "it is its own root: whoever is to accept its signatures pins exactly this certificate, and its successor too")
	next(w, "sign with it; verify by it",
		[]string{"sign", "REF", "--key", c.Key.Key, "--chain", c.Out},
		[]string{"verify", "REF", "--root", c.Out})
	fmt.Fprintf(w, "\n1 file written; %s\n", Uses(c.Key, c.Calls))
}

// next writes the commands that come next, each on a line that can be copied.
func next(w io.Writer, what string, commands ...[]string) {
	fmt.Fprintf(w, "\n  next: %s\n", what)
	for _, c := range commands {
		words := []string{"imprint"}
		for _, word := range c {
			words = append(words, ShellWord(word))
		}
		fmt.Fprintf(w, "    %s\n", Escape(strings.Join(words, " ")))
	}
}

// ShellWord quotes a word that a shell would take apart, for commands to copy.
func ShellWord(s string) string {
	switch {
	case s != "" && !strings.ContainsAny(s, " \t\n'\"`$&|;<>()*?[]{}!#~\\"):
		return s
	case !strings.ContainsAny(s, "\"`$\\!"):
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
