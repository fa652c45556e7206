package keys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/keyfile"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
	"github.com/imprint-oci/imprint/kms/kmstest/azuretest"
	"github.com/imprint-oci/imprint/kms/kmstest/gcptest"
	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
	"github.com/imprint-oci/imprint/kms/kmstest/vaulttest"
)

// A canary is a secret that must be seen nowhere but where it was put.
type canary struct {
	name  string
	text  string
	homes []string // files that hold it by right
}

// seenNowhere runs imprint again and again while the process list is being watched, and looks for the canaries in all that is said,
// in every file below the desk and in every request to the registry.
func (d *desk) seenNowhere(t *testing.T, canaries []canary, runs ...[]string) {
	t.Helper()
	stop, found := make(chan struct{}), make(chan string, 1)
	go func() { found <- watchProcesses(canaries, stop) }()
	said := map[int]bool{}
	for _, args := range runs {
		for _, more := range [][]string{nil, {"-o", "json"}, {"-q"}} {
			o := d.run(t, append(slices.Clone(args), more...)...)
			said[o.code] = true
			for _, c := range canaries {
				if strings.Contains(o.stdout+o.stderr, c.text) {
					t.Errorf("imprint %s says the %s:\n%s%s", strings.Join(args, " "), c.name, o.stdout, o.stderr)
				}
			}
		}
	}
	close(stop)
	if where := <-found; where != "" {
		t.Error(where)
	}
	if !said[0] || len(said) < 2 {
		t.Errorf("the runs end in %v only: there has to be one that works and one that does not", said)
	}
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, c := range canaries {
			if bytes.Contains(b, []byte(c.text)) && !slices.Contains(c.homes, path) {
				t.Errorf("the %s is in %s", c.name, path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, r := range d.registry.Requests() {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range canaries {
			if bytes.Contains(b, []byte(c.text)) {
				t.Errorf("the %s went to the registry: %s %s", c.name, r.Method, r.Path)
			}
		}
	}
}

// watchProcesses reads the arguments of all processes until stop, and says whose hold a canary.
func watchProcesses(canaries []canary, stop <-chan struct{}) string {
	for {
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err.Error()
		}
		for _, file := range files {
			b, _ := os.ReadFile(file) // many have ended meanwhile
			for _, c := range canaries {
				if bytes.Contains(b, []byte(c.text)) {
					return fmt.Sprintf("the %s is in the arguments of a process: %q", c.name, b)
				}
			}
		}
		select {
		case <-stop:
			return ""
		default:
		}
	}
}

func TestSecretsAWS(t *testing.T) {
	t.Parallel()
	d, s, _ := awsDesk(t, "P-256")
	d.env = append(d.env, "AWS_SESSION_TOKEN=canary-session-1f0c")
	chain := d.certified(t, awsKey)
	canaries := []canary{{"secret access key", awstest.SecretAccessKey, nil}, {"session token", "canary-session-1f0c", nil}}
	n := 0
	for _, fault := range []awstest.Fault{awstest.None, awstest.Denied, awstest.Expired, awstest.Unrecognized, awstest.Page, awstest.Gateway} {
		n++
		s.Fault(func(op string, _ int) awstest.Fault {
			if op == "Sign" || fault == awstest.Expired {
				return fault
			}
			return awstest.None
		})
		if fault == awstest.Gateway {
			s.Fault(signFaults(1<<30, awstest.OtherKey))
		}
		ref := d.image(t, fmt.Sprint("secrets", n), "v1")
		runs := [][]string{{"key", "show", "file:" + d.file("plain.key", certtest.KeyPEM(certtest.Key("P-256")))},
			{"sign", ref, "--key", awsKey, "--chain", chain}, {"key", "show", awsKey, "--probe"}, {"doctor", "--key", awsKey},
			{"sign", ref, "--key", "awskms:///alias/none", "--chain", chain}}
		d.seenNowhere(t, canaries, runs...)
	}
}

func TestSecretsAzure(t *testing.T) {
	t.Parallel()
	d, s, _ := newAzure(t)
	v := s.AddKey("release", certtest.Key("P-256"))
	chain := d.certified(t, azureKey)
	leaf := d.ca.Leaf(v.Signer.Public(), "release")
	s.Edit(func() { v.Certificates, v.Exportable = d.ca.Chain(leaf), true })
	private := strings.Split(string(certtest.KeyPEM(v.Signer)), "\n")[1]
	canaries := []canary{{"client secret", s.Secret, nil}, {"private key", private, nil}}
	for i, fault := range []azuretest.Fault{azuretest.None, azuretest.Denied, azuretest.SecretExpired, azuretest.TokenExpired, azuretest.Garbage} {
		s.Fault(func(op string, _ int) azuretest.Fault {
			if op != azuretest.Challenge {
				return fault
			}
			return azuretest.None
		})
		ref := d.image(t, fmt.Sprint("secrets", i), "v1")
		d.seenNowhere(t, canaries, []string{"version"}, []string{"sign", ref, "--key", azureKey, "--chain", chain},
			[]string{"sign", ref, "--key", azureKey + "?chain=secret", "--again"}, []string{"key", "show", azureKey + "?chain=secret", "--probe"},
			[]string{"key", "show", "azurekms://" + azureVault + "/none"})
	}
}

func TestSecretsGCP(t *testing.T) {
	t.Parallel()
	d, s, _ := newGCP(t)
	s.AddKey(gcpName, certtest.Key("P-256"))
	chain := d.certified(t, gcpKey)
	b, err := os.ReadFile(s.Credentials())
	if err != nil {
		t.Fatal(err)
	}
	var account map[string]string
	if err := json.Unmarshal(b, &account); err != nil {
		t.Fatal(err)
	}
	canaries := []canary{{"service account's key", strings.Split(account["private_key"], "\n")[2], nil}, {"bearer token", "eyJhbGciOiJSUzI1NiIs", nil}}
	broken := d.file("broken.json", b[:len(b)-20])
	canaries[0].homes = []string{broken}
	for i, fault := range []gcptest.Fault{gcptest.OK, gcptest.Denied, gcptest.Expired, gcptest.Missing, gcptest.OtherKey} {
		s.Fault(func(op string, _ int) gcptest.Fault {
			if op == gcptest.AsymmetricSign || fault == gcptest.Expired {
				return fault
			}
			return gcptest.OK
		})
		ref := d.image(t, fmt.Sprint("secrets", i), "v1")
		d.seenNowhere(t, canaries, []string{"version"}, []string{"sign", ref, "--key", gcpKey, "--chain", chain}, []string{"doctor", "--key", gcpKey},
			[]string{"key", "show", "gcpkms://" + gcpRing + "/cryptoKeys/none/cryptoKeyVersions/1"})
	}
	d.env = append(d.env, "GOOGLE_APPLICATION_CREDENTIALS="+broken)
	d.seenNowhere(t, canaries, []string{"version"}, []string{"key", "show", gcpKey})
}

func TestSecretsVault(t *testing.T) {
	t.Parallel()
	d, s := newVault(t)
	s.AddKey("release", certtest.Key("P-256"))
	const key = "hashivault://release"
	chain := d.certified(t, key)
	canaries := []canary{{"token", vaulttest.Root, nil}}
	for i, fault := range []vaulttest.Fault{{}, vaulttest.Denied(), vaulttest.Expired(), vaulttest.Internal("token " + vaulttest.Root + " is odd"),
		{Status: 307, Location: "http://127.0.0.1:1/" + vaulttest.Root}, {Status: 400, Body: "<html>" + vaulttest.Root}, {Effect: vaulttest.OtherKey}} {
		s.Fault(func(op string, _ int) vaulttest.Fault {
			if op == vaulttest.OpSign {
				return fault
			}
			return vaulttest.Fault{}
		})
		ref := d.image(t, fmt.Sprint("secrets", i), "v1")
		d.seenNowhere(t, canaries, []string{"version"}, []string{"sign", ref, "--key", key, "--chain", chain}, []string{"doctor", "--key", key},
			[]string{"key", "show", key + "?version=9"}, []string{"key", "show", "hashivault://none"})
	}
}

func TestSecretsFile(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const passphrase = "canary-passphrase-77aa"
	key, pem, err := keyfile.Generate("P-256", []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	uri, chain := "file:"+d.file("release.key", pem), d.chainFor(key.Public(), "release")
	from := d.file("passphrase", []byte(passphrase+"\n"))
	canaries := []canary{{"passphrase", passphrase, []string{from}}}
	d.seenNowhere(t, canaries, []string{"sign", d.ref, "--key", uri, "--chain", chain, "--passphrase-file", from},
		[]string{"key", "show", uri, "--passphrase-file", d.file("wrong", []byte("another"))}, []string{"key", "show", uri})
	d.env = append(d.env, "IMPRINT_PASSPHRASE="+passphrase)
	d.seenNowhere(t, canaries, []string{"sign", d.ref, "--key", uri, "--chain", chain, "--again"}, []string{"doctor", "--key", uri},
		[]string{"sign", d.ref, "--key", uri, "--chain", d.at("ca.pem")})
}

// A PIN comes from a file, from the variable, or from the URI's pin-source, and is right, wrong or too much.
func TestSecretsPKCS11(t *testing.T) {
	t.Parallel()
	const wrong = "canary-wrong-0815"
	key := certtest.Key("RSA-2048")
	real := hsm(t, nil, pkcs11test.Pair("release", 1, key))
	for name, tt := range map[string]struct {
		pin    string
		faults string
	}{
		"right": {userPIN, ""}, "wrong": {wrong, ""}, "locked": {userPIN, "locked"}, "crash": {userPIN, "crash"}, "corrupt": {userPIN, "corrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := real.Around(t, tt.faults)
			d := tokened(t, h)
			chain := d.chainFor(key.Public(), "release")
			from := d.file("the.pin", []byte(tt.pin+"\n"))
			canaries := []canary{{"PIN", userPIN, []string{d.pinFile(), from}}, {"wrong PIN", wrong, []string{from}}}
			asked, sourced := h.URI("object=release"), h.URI("object=release", "pin-source="+from)
			both := [][]string{{"version"}, {"key", "show", h.URI("object=absent", "pin-source="+from)}} // one that works, one that does not
			d.seenNowhere(t, canaries, append(both,
				[]string{"sign", d.ref, "--key", asked, "--chain", chain, "--passphrase-file", from, "--again"},
				[]string{"sign", d.ref, "--key", sourced, "--chain", chain, "--signature-format", "cose", "--again"},
				[]string{"key", "show", sourced, "--probe"}, []string{"doctor", "--key", sourced},
				[]string{"key", "csr", sourced, "--subject", "C=DE, ST=BE, O=Acme, CN=x", "--pkcs1"})...)
			d.env = append(d.env, "IMPRINT_PASSPHRASE="+tt.pin)
			d.seenNowhere(t, canaries, append(both, []string{"sign", d.ref, "--key", asked, "--chain", chain, "--again"},
				[]string{"key", "show", asked, "--probe"}, []string{"doctor", "--key", asked})...)
			if h.Calls("C_Login") == 0 && tt.faults != "locked" {
				t.Error("no PIN was ever shown to the token")
			}
		})
	}
}

// What the configuration hands to a plugin may be a secret: only the plugin gets it, over stdin. imprint's own passphrase it never gets.
func TestSecretsPlugin(t *testing.T) {
	t.Parallel()
	const secret, passphrase = "canary-plugin-token-93be", "canary-passphrase-5d20"
	for capability, faults := range map[string][]string{
		"RAW":      {"", "crash", "error=ACCESS_DENIED", "signature", "get-plugin-metadata/garbage"},
		"ENVELOPE": {"", "crash", "envelope-garbage", "payload-digest"},
	} {
		t.Run(capability, func(t *testing.T) {
			t.Parallel()
			d, p, c := plugged(t, "P-256")
			d.env = append(d.env, "IMPRINT_PASSPHRASE="+passphrase)
			p.Default(plugintest.Config{"calls-file": c["calls-file"]})
			record := d.at("record")
			for i, fault := range faults {
				more := c.With("capabilities", capability).With("fault", fault).With("token", secret).With("record-file", record)
				text, err := json.Marshal(map[string]any{"keys": map[string]any{"release": map[string]any{"uri": pluginKey, "plugin-config": more}}})
				if err != nil {
					t.Fatal(err)
				}
				config := d.file("config.yaml", text)
				broken := d.file("broken.yaml", bytes.ReplaceAll(text, []byte(`"fault"`), []byte(`"fault": 7, "fault"`)))
				canaries := []canary{{"plugin's token", secret, []string{config, broken, record}}, {"passphrase", passphrase, nil}}
				ref := d.image(t, fmt.Sprint("secrets", i), "v1")
				d.seenNowhere(t, canaries, []string{"version"}, []string{"key", "show", "release", "--config", broken},
					[]string{"sign", ref, "--key", "release", "--config", config, "--again"},
					[]string{"key", "show", "release", "--config", config}, []string{"doctor", "--key", "release", "--config", config})
			}
			told, err := os.ReadFile(record)
			if err != nil || !bytes.Contains(told, []byte(secret)) {
				t.Errorf("the plugin was never told its token: %v", err)
			}
		})
	}
}
