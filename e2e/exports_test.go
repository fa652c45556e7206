package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/santhosh-tekuri/jsonschema/v6"
	yaml "go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/e2e/judge"
)

// What policy export writes, judged by others: notation-go judges real signatures by it, and what is written for Kyverno and Ratify is held
// against their own schemas. The tables are those of policies (T1 to T3).

const t1Scopes = `scopes:
  "*": %s
  mirror.acme.example/library: {trust: [dockerlib], inherit: true}
  mirror.acme.example/wordpress: {trust: [wordpress], inherit: true}
`

var (
	t1Columns = []string{"org", "dev", "dockerlib", "wordpress", "dev+org", "none", "unknown+org"}
	t1Rows    = []struct{ image, cluster, rule, want string }{
		{"mirror.acme.example/wordpress", "dev", "mirror.acme.example/wordpress", "A A R A A R A"},
		{"mirror.acme.example/wordpress", "prod", "mirror.acme.example/wordpress", "A R R A A R A"},
		{"mirror.acme.example/library/alpine", "dev", "mirror.acme.example/library", "A A A R A R A"},
		{"mirror.acme.example/library/alpine", "prod", "mirror.acme.example/library", "A R A R A R A"},
		{"ci.acme.example/team/api", "dev", "*", "A A R R A R A"},
		{"ci.acme.example/team/api", "prod", "*", "A R R R A R A"},
		{"mirror.acme.example/libraryx/y", "dev", "*", "A A R R A R A"},
	}

	t2Columns = []string{"mine", "vendor", "hub", "vendor+hub", "none"}
	t2Rows    = []struct{ image, rule, want string }{
		{"private-registry.example/a/b", "private-registry.example", "A R R R R"},
		{"docker.io/library/alpine", "docker.io", "R R A A R"},
		{"docker.io/acme2/x", "docker.io", "R R A A R"},
		{"docker.io/vendor/app", "docker.io/vendor", "R A R A R"},
		{"mirror.acme.example/vendor", "mirror.acme.example/vendor", "R A R A R"},
		{"docker.io/vendorx/app", "docker.io", "R R A A R"},
		{"docker.io/vendor/legacy/app", "", "R R R R R"},
		{"docker.io/vendor/legacyx", "docker.io/vendor", "R A R A R"},
		{"mirror.acme.example/vendor/app", "mirror.acme.example/vendor", "R A R A R"},
		{"mirror.acme.example/vendor/legacy/a", "", "R R R R R"},
		{"mirror.acme.example/other/x", "", "R R R R R"},
		{"quay.io/x/y", "", "R R R R R"},
		{"docker.io.evil.example/vendor/app", "", "R R R R R"},
		{"registry-1.docker.io/vendor/app", "docker.io/vendor", "R A R A R"},
		{"DOCKER.IO:443/vendor/app", "docker.io/vendor", "R A R A R"},
	}
)

const t2Scopes = `scopes:
  private-registry.example: [mine]
  docker.io: [hub]
  docker.io/vendor: [vendor]
  docker.io/vendor/legacy: {reject: true}
mirrors:
  docker.io/vendor: [mirror.acme.example/vendor]
`

// exporting is a desk with the policies of T1 and T2 on it. All T1 signers are of Acme, since notation holds an identity of one root
// against all roots of a scope.
func exporting(t *testing.T, identities bool) (d *tables, dev, prod, consumer string) {
	t.Helper()
	acme := func(name string) *signatory { return newSignatory(name, ofOrganization("US", "WA", "Acme", name)) }
	d = newTables(t, map[string]*signatory{
		"org": acme("org"), "dev": acme("dev"), "dockerlib": acme("dockerlib"), "wordpress": acme("wordpress"), "unknown": acme("unknown"),
		"mine": newSignatory("mine"), "vendor": newSignatory("vendor", ofOrganization("DE", "BE", "Vendor GmbH", "vendor")), "hub": newSignatory("hub"),
	})
	org, vendor := "org.pem", "vendor.pem"
	if identities {
		org = `{certificates: [org.pem], identities: ["C=US, ST=WA, O=Acme"]}`
		vendor = `{certificates: [vendor.pem], identities: ["C=DE, ST=BE, O=Vendor GmbH"]}`
	}
	t1 := func(cluster, everywhere, roots string) string {
		return d.file(cluster+".yaml", fmt.Appendf(nil, "version: 1\nroots:\n  org: %s\n%s  dockerlib: dockerlib.pem\n  wordpress: wordpress.pem\n"+t1Scopes,
			org, roots, everywhere))
	}
	dev, prod = t1("dev", "[org, dev]", "  dev: dev.pem\n"), t1("prod", "[org]", "")
	consumer = d.file("consumer.yaml", fmt.Appendf(nil, "version: 1\nroots:\n  mine: mine.pem\n  vendor: %s\n  hub: hub.pem\n"+t2Scopes, vendor))
	return d, dev, prod, consumer
}

// export runs policy export and returns the folder that it wrote.
func (d *tables) export(t *testing.T, to, policy, accept string, more ...string) string {
	t.Helper()
	out := filepath.Join(d.dir, fmt.Sprintf("%s-%d", to, len(sure(os.ReadDir(d.dir)))))
	var accepted []string
	if accept != "" {
		accepted = []string{"--accept-loss", accept}
	}
	d.want(t, 0, "", append([]string{"policy", "export", "--to", to, "--out", out, "--policy", policy}, append(accepted, more...)...)...)
	return out
}

func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// byNotation wants notation to say of each column what a table says.
func (d *tables) byNotation(t *testing.T, folder, image, want string, columns, refs []string) {
	t.Helper()
	for i, cell := range strings.Fields(want) {
		err := judge.VerifyFolder(t.Context(), folder, image, refs[i])
		if (err == nil) != (cell == "A") {
			t.Errorf("%s signed by %s: notation says %v, want %s", image, columns[i], err, cell)
		}
	}
}

func (d *tables) columnsOf(columns []string, prefix string) []string {
	refs := make([]string, len(columns))
	for i, names := range columns {
		if names == "none" {
			refs[i] = d.put(prefix + "none")
			continue
		}
		refs[i] = d.put(fmt.Sprint(prefix, i), strings.Split(names, "+")...)
	}
	return refs
}

func TestT1ByNotation(t *testing.T) {
	t.Parallel()
	d, dev, prod, _ := exporting(t, true)
	refs := d.columnsOf(t1Columns, "t1-")
	var repos strings.Builder
	for _, row := range t1Rows {
		fmt.Fprintln(&repos, row.image)
	}
	list := d.file("repos.txt", []byte(repos.String()))
	folders := map[string]string{
		"dev":  d.export(t, "notation", dev, "claims-if-present,identities", "--batch", list),
		"prod": d.export(t, "notation", prod, "claims-if-present,identities", "--batch", list),
	}
	for _, row := range t1Rows {
		d.byNotation(t, folders[row.cluster], row.image, row.want, t1Columns, refs)
	}
	// What is not listed is rejected, also under the scope *.
	d.byNotation(t, folders["dev"], "ci.acme.example/team/other", "R R R R R R R", t1Columns, refs)
}

func TestT2ByNotation(t *testing.T) {
	t.Parallel()
	d, _, _, consumer := exporting(t, true)
	refs := d.columnsOf(t2Columns, "t2-")
	var repos strings.Builder
	for _, row := range t2Rows {
		fmt.Fprintln(&repos, row.image)
	}
	folder := d.export(t, "notation", consumer, "claims-if-present", "--batch", d.file("repos.txt", []byte(repos.String())))
	for _, row := range t2Rows {
		d.byNotation(t, folder, row.image, row.want, t2Columns, refs)
	}
}

func TestT3ByNotation(t *testing.T) {
	t.Parallel()
	d := newTables(t, map[string]*signatory{"P": newSignatory("P"), "C": newSignatory("C")})
	columns := []string{"P", "C", "P+C", "none"}
	refs := d.columnsOf(columns, "t3-")
	list := d.file("repos.txt", []byte("docker.io/vendor/app\ndocker.io/other/app\n"))
	const child = "  docker.io/vendor: "
	for i, row := range []struct{ entry, accept, want string }{
		{"", "claims-if-present", "A R A R"},
		{child + "{trust: [C]}", "claims-if-present", "R A A R"},
		{child + "{trust: [C], inherit: true}", "claims-if-present", "A A A R"},
		{child + "{trust: [P, C]}", "claims-if-present", "A A A R"},
		{child + "{reject: true}", "claims-if-present", "R R R R"},
		{child + "[C]\n  docker.io/vendor/app: {trust: [C], inherit: true}", "claims-if-present", "R A A R"},
		{child + "{accept: unsigned}", "claims-if-present", "A A A A"},
		// What notation cannot say is rejected there, never accepted more.
		{child + "{require: [[P], [C]]}", "claims-if-present,require", "R R R R"},
		{child + "{trust: [P, C], claims: tag}", "claims-if-present,claims", "R R R R"},
		{child + "{trust: [P, {root: C, max-age: 1d}]}", "claims-if-present,max-age", "A R A R"},
		{child + "{trust: [C, {root: P, algorithms: [ES384]}]}", "claims-if-present,algorithms", "R A A R"},
		{child + "{trust: [C], enforce: false}", "claims-if-present,enforce", "R A A R"},
		{child + "{trust: [C], strict-x509: true}", "claims-if-present,strict-x509", "R R R R"},
		{child + `{trust: [C, {root: P, identities: ["dns:build.acme.example"]}]}`, "claims-if-present,identities", "R A A R"},
	} {
		policy := d.file(fmt.Sprintf("t3-%d.yaml", i), []byte("version: 1\nroots: {P: P.pem, C: C.pem}\nscopes:\n  docker.io: [P]\n"+row.entry+"\n"))
		if codes := strings.Split(row.accept, ","); len(codes) > 1 {
			d.want(t, 3, "policy-loss", "policy", "export", "--to", "notation", "--out", filepath.Join(d.dir, "never"), "--policy", policy,
				"--accept-loss", codes[0], "--batch", list)
		}
		folder := d.export(t, "notation", policy, row.accept, "--batch", list)
		d.byNotation(t, folder, "docker.io/vendor/app", row.want, columns, refs)
		d.byNotation(t, folder, "docker.io/other/app", "A R A R", columns, refs)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "never")); !os.IsNotExist(err) {
		t.Errorf("a refused export wrote something: %v", err)
	}
}

// A policy of notation that comes here and goes back judges as it did.
func TestRoundTripOfNotation(t *testing.T) {
	t.Parallel()
	d, _, _, consumer := exporting(t, true)
	refs := d.columnsOf(t2Columns, "t2-")
	var repos strings.Builder
	rows := slices.Clone(t2Rows)
	// The one repository with others below it: a scope holds for those too, which is what the loss is called for.
	rows = slices.DeleteFunc(rows, func(row struct{ image, rule, want string }) bool { return row.image == "mirror.acme.example/vendor" })
	for _, row := range rows {
		fmt.Fprintln(&repos, row.image)
	}
	list := d.file("repos.txt", []byte(repos.String()))
	first := d.export(t, "notation", consumer, "claims-if-present", "--batch", list)
	here := filepath.Join(d.dir, "back", "policy.yaml")
	d.want(t, 3, "policy-loss", "policy", "import", filepath.Join(first, "trustpolicy.json"), "--out", here)
	d.want(t, 0, "", "policy", "import", filepath.Join(first, "trustpolicy.json"), "--out", here, "--accept-loss", "below")
	second := d.export(t, "notation", here, "", "--batch", list)
	for _, row := range rows {
		d.byNotation(t, second, row.image, row.want, t2Columns, refs)
		for i, cell := range strings.Fields(row.want) {
			o := d.run(t, "verify", refs[i], "--policy", here, "--as", row.image+":1.0", "-o", "json")
			if got := o.field(t, "verdict"); (got == "accepted") != (cell == "A") {
				t.Errorf("%s signed by %s: imprint says %s by the imported policy, want %s", row.image, t2Columns[i], got, cell)
			}
		}
	}
}

// A schema is what a custom resource may look like.
type schema struct {
	Group, Version, Kind string
	Open                 map[string]any `json:"openAPIV3Schema"`
}

func schemaOf(t *testing.T, file string) schema {
	t.Helper()
	var s schema
	if err := json.Unmarshal(sure(os.ReadFile(filepath.Join("testdata", "schemas", file))), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// closed makes of fields that the schema does not name an error: Kubernetes would drop them without a word.
func closed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = closed(member)
		}
		_, fields := v["properties"].(map[string]any)
		if keep, _ := v["x-kubernetes-preserve-unknown-fields"].(bool); fields && !keep && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
	case []any:
		for i := range v {
			v[i] = closed(v[i])
		}
	}
	return v
}

// check holds a resource against the schema.
func (s schema) check(resource map[string]any) error {
	if resource["apiVersion"] != s.Group+"/"+s.Version || resource["kind"] != s.Kind {
		return fmt.Errorf("it is %v of %v", resource["kind"], resource["apiVersion"])
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("crd.json", closed(s.Open)); err != nil {
		return err
	}
	compiled, err := c.Compile("crd.json")
	if err != nil {
		return err
	}
	b, err := json.Marshal(resource)
	if err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		return err
	}
	return compiled.Validate(instance)
}

func resources(t *testing.T, file string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for text := range strings.SplitSeq(string(sure(os.ReadFile(file))), "\n---\n") {
		var r map[string]any
		if err := yaml.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// The schemas as they are held here find what is not in them.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, text string }{
		{"kyverno-clusterpolicy.json", `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: x}, spec: {rulez: []}}`},
		{"kyverno-clusterpolicy.json", `{apiVersion: kyverno.io/v2, kind: ClusterPolicy, metadata: {name: x}, spec: {}}`},
		{"kyverno-clusterpolicy.json", `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, spec: {rules: [{name: x, verifyImages: [{type: Notation}]}]}}`},
		{"kyverno-clusterpolicy.json", `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, spec: {rules: [{name: x, verifyImages: [{attestors: [{count: 0}]}]}]}}`},
		{"ratify-verifier.json", `{apiVersion: config.ratify.deislabs.io/v1beta1, kind: Verifier, spec: {name: x}}`},
		{"ratify-keymanagementprovider.json", `{apiVersion: config.ratify.deislabs.io/v1beta1, kind: KeyManagementProvider, spec: {kind: inline}}`},
	} {
		var r map[string]any
		if err := yaml.Unmarshal([]byte(c.text), &r); err != nil {
			t.Fatal(err)
		}
		if err := schemaOf(t, c.file).check(r); err == nil {
			t.Errorf("%s passes %s", c.text, c.file)
		}
	}
}

func TestExportToRatify(t *testing.T) {
	t.Parallel()
	d, dev, _, consumer := exporting(t, true)
	list := d.file("repos.txt", []byte("docker.io/vendor/app\nprivate-registry.example/a/b\nmirror.acme.example/library/alpine\nquay.io/x/y\n"))
	verifiers, providers := schemaOf(t, "ratify-verifier.json"), schemaOf(t, "ratify-keymanagementprovider.json")
	for _, policy := range []string{dev, consumer} {
		same := d.export(t, "notation", policy, "claims-if-present,identities", "--batch", list)
		rs := resources(t, filepath.Join(d.export(t, "ratify", policy, "claims-if-present,identities", "--batch", list), "ratify.yaml"))
		certs := map[string]string{} // by provider
		for _, r := range rs[:len(rs)-1] {
			if err := providers.check(r); err != nil {
				t.Error(err)
			}
			spec := r["spec"].(map[string]any)
			parameters := spec["parameters"].(map[string]any)
			if spec["type"] != "inline" || parameters["contentType"] != "certificate" {
				t.Errorf("a provider is %v of %v", spec["type"], parameters["contentType"])
			}
			certs[r["metadata"].(map[string]any)["name"].(string)] = parameters["value"].(string)
		}
		last := rs[len(rs)-1]
		if err := verifiers.check(last); err != nil {
			t.Fatal(err)
		}
		var spec struct {
			Name, ArtifactTypes string
			Parameters          struct {
				VerificationCertStores map[string]map[string][]string
				TrustPolicyDoc         json.RawMessage
			}
		}
		if err := json.Unmarshal(sure(json.Marshal(last["spec"])), &spec); err != nil {
			t.Fatal(err)
		}
		if spec.Name != "notation" || spec.ArtifactTypes != "application/vnd.cncf.notary.signature" {
			t.Errorf("the verifier is %s of %s", spec.Name, spec.ArtifactTypes)
		}
		var got, want trustpolicy.Document
		if err := json.Unmarshal(spec.Parameters.TrustPolicyDoc, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(sure(os.ReadFile(filepath.Join(same, "trustpolicy.json"))), &want); err != nil {
			t.Fatal(err)
		}
		if a, b := sure(json.Marshal(got)), sure(json.Marshal(want)); string(a) != string(b) {
			t.Errorf("Ratify is told %s, notation %s", a, b)
		}
		if err := got.Validate(); err != nil {
			t.Error(err)
		}
		stores := 0
		for _, st := range got.TrustPolicies {
			for _, full := range st.TrustStores {
				stores++
				kind, name, _ := strings.Cut(full, ":")
				names := spec.Parameters.VerificationCertStores[kind][name]
				if len(names) != 1 || certs[names[0]] == "" {
					t.Fatalf("the store %s is %q", full, names)
				}
				var text string
				for _, e := range sure(os.ReadDir(filepath.Join(same, "truststore", "x509", kind, name))) {
					text += string(sure(os.ReadFile(filepath.Join(same, "truststore", "x509", kind, name, e.Name()))))
				}
				if strings.TrimSpace(certs[names[0]]) != strings.TrimSpace(text) {
					t.Errorf("the store %s holds something else for Ratify", full)
				}
			}
		}
		if stores == 0 {
			t.Error("no trust stores")
		}
	}
}

// A kyverno is a ClusterPolicy as far as an image is concerned: how Kyverno finds the rules for it, and the certificates that they ask for.
type kyverno struct {
	Spec struct {
		Rules []struct {
			Name     string
			Validate struct {
				FailureAction string
				Foreach       []struct {
					List string
					Deny struct {
						Conditions struct{ Any, All []kyvernoCondition }
					}
				}
			}
			VerifyImages []struct {
				Type, FailureAction                  string
				ImageReferences, SkipImageReferences []string
				Required, VerifyDigest, MutateDigest bool
				Attestors                            []struct {
					Count   int
					Entries []struct{ Certificates struct{ Cert string } }
				}
			}
		}
	}
}

type kyvernoCondition struct {
	Key, Operator string
	Value         any
}

// glob is Kyverno's: * takes anything, ? one character.
func glob(pattern, name string) bool {
	for len(pattern) > 0 {
		switch pattern[0] {
		case '*':
			return glob(pattern[1:], name) || name != "" && glob(pattern, name[1:])
		default:
			if name == "" || pattern[0] != '?' && pattern[0] != name[0] {
				return false
			}
		}
		pattern, name = pattern[1:], name[1:]
	}
	return name == ""
}

func matching(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, name) })
}

// holds evaluates a condition for an image.
func (c kyvernoCondition) holds(t *testing.T, host, path string) bool {
	t.Helper()
	fill := strings.NewReplacer("{{ element.registry || '' }}", host, "{{ element.path }}", path, "{{ to_lower(element.registry || '') }}", strings.ToLower(host))
	key := fill.Replace(c.Key)
	if strings.ContainsAny(key, "{*?") {
		t.Fatalf("the key %s", key)
	}
	switch c.Operator {
	case "AnyIn", "AllNotIn":
		var patterns []string
		for _, v := range c.Value.([]any) {
			patterns = append(patterns, v.(string))
		}
		return matching(patterns, key) == (c.Operator == "AnyIn")
	case "NotEquals":
		return key != fill.Replace(c.Value.(string))
	}
	t.Fatalf("the operator %s", c.Operator)
	return false
}

// judge returns the rules that verify an image, and whether one denies it. Names are host, path and :tag or @digest.
func (k kyverno) judge(t *testing.T, image, version string) (rules []int, denied bool) {
	t.Helper()
	host, path, _ := strings.Cut(image, "/")
	for i, r := range k.Spec.Rules {
		for _, f := range r.Validate.Foreach {
			if r.Validate.FailureAction != "Enforce" || f.List != "images.[containers, initContainers, ephemeralContainers][].*[]" {
				t.Fatalf("rule %s: %+v", r.Name, r.Validate)
			}
			conditions := f.Deny.Conditions
			holds := func(c kyvernoCondition) bool { return c.holds(t, host, path) }
			any := len(conditions.Any) == 0 || slices.ContainsFunc(conditions.Any, holds)
			all := !slices.ContainsFunc(conditions.All, func(c kyvernoCondition) bool { return !holds(c) })
			denied = denied || any && all
		}
		for _, v := range r.VerifyImages {
			if matching(v.ImageReferences, image+version) && !matching(v.SkipImageReferences, image+version) {
				rules = append(rules, i)
			}
		}
	}
	return rules, denied
}

// wants evaluates the attestors of a rule for signatures under roots.
func (k kyverno) wants(t *testing.T, d *tables, rule int, names []string) bool {
	t.Helper()
	for _, set := range k.Spec.Rules[rule].VerifyImages[0].Attestors {
		n := 0
		for _, e := range set.Entries {
			block, rest := pem.Decode([]byte(e.Certificates.Cert))
			if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
				t.Fatalf("a certificate is %q", e.Certificates.Cert)
			}
			if slices.ContainsFunc(names, func(name string) bool { return string(d.by[name].root.Certificate.Raw) == string(block.Bytes) }) {
				n++
			}
		}
		if set.Count < 1 || n < set.Count {
			return false
		}
	}
	return true
}

// byKyverno wants the right rule for an image, by its tag and by its digest, and a table's verdicts.
func (d *tables) byKyverno(t *testing.T, k kyverno, image, scope, want string, columns []string) {
	t.Helper()
	for _, version := range []string{":1.0", "@sha256:" + strings.Repeat("0", 64)} {
		rules, denied := k.judge(t, image, version)
		switch {
		case scope == "" && !denied:
			t.Errorf("%s%s is not denied; rules %v", image, version, rules)
			continue
		case scope == "":
			continue
		case denied || len(rules) != 1:
			t.Errorf("%s%s: denied %v, rules %v, want one", image, version, denied, rules)
			continue
		}
		rule := k.Spec.Rules[rules[0]]
		if name := strings.ReplaceAll(scope, "/", "-"); !strings.HasSuffix(rule.Name, "-"+strings.ReplaceAll(name, "*", "everything")) {
			t.Errorf("%s%s is judged by %s, want scope %s", image, version, rule.Name, scope)
		}
		for i, cell := range strings.Fields(want) {
			names := slices.DeleteFunc(strings.Split(columns[i], "+"), func(n string) bool { return n == "none" })
			if k.wants(t, d, rules[0], names) != (cell == "A") {
				t.Errorf("%s signed by %s: Kyverno would not say %s", image, columns[i], cell)
			}
		}
	}
}

func kyvernoOf(t *testing.T, folder string) kyverno {
	t.Helper()
	rs := resources(t, filepath.Join(folder, "kyverno.yaml"))
	if len(rs) != 1 {
		t.Fatalf("%d documents", len(rs))
	}
	if err := schemaOf(t, "kyverno-clusterpolicy.json").check(rs[0]); err != nil {
		t.Fatal(err)
	}
	var k kyverno
	if err := json.Unmarshal(sure(json.Marshal(rs[0])), &k); err != nil {
		t.Fatal(err)
	}
	for _, r := range k.Spec.Rules {
		for _, v := range r.VerifyImages {
			if v.Type != "Notary" || v.FailureAction != "Enforce" || !v.Required || !v.VerifyDigest || !v.MutateDigest {
				t.Errorf("rule %s: %+v", r.Name, v)
			}
		}
	}
	return k
}

func TestT1ByKyverno(t *testing.T) {
	t.Parallel()
	d, dev, prod, _ := exporting(t, false)
	policies := map[string]kyverno{
		"dev":  kyvernoOf(t, d.export(t, "kyverno", dev, "claims-if-present")),
		"prod": kyvernoOf(t, d.export(t, "kyverno", prod, "claims-if-present")),
	}
	for _, row := range t1Rows {
		d.byKyverno(t, policies[row.cluster], row.image, row.rule, row.want, t1Columns)
	}
	// Another spelling of a registry would be in another scope.
	for _, image := range []string{"MIRROR.acme.example/wordpress", "mirror.acme.example:443/wordpress", "mirror.acme.example./wordpress", "mirror.acme.example.:5000/wordpress", "index.docker.io/library/x",
		"registry-1.docker.io/library/x"} {
		d.byKyverno(t, policies["dev"], image, "", "", nil)
	}
}

func TestT2ByKyverno(t *testing.T) {
	t.Parallel()
	d, _, _, consumer := exporting(t, false)
	k := kyvernoOf(t, d.export(t, "kyverno", consumer, "claims-if-present"))
	for _, row := range t2Rows {
		if host, _, _ := strings.Cut(row.image, "/"); host == "registry-1.docker.io" || host == "DOCKER.IO:443" {
			row.rule = "" // denied: Kyverno compares names as they are written
		}
		d.byKyverno(t, k, row.image, row.rule, row.want, t2Columns)
	}
}

// Kyverno takes alpine for docker.io/alpine, and can be told to take it for an image of no registry.
func TestExportToKyvernoShortNames(t *testing.T) {
	t.Parallel()
	d, _, _, _ := exporting(t, false)
	scopes := "version: 1\nroots: {mine: mine.pem, hub: hub.pem, vendor: vendor.pem}\nscopes:\n  \"*\": [mine]\n  docker.io: [hub]\n"
	k := kyvernoOf(t, d.export(t, "kyverno", d.file("hub.yaml", []byte(scopes)), "claims-if-present"))
	d.byKyverno(t, k, "docker.io/alpine", "docker.io", "R R A A R", t2Columns)
	d.byKyverno(t, k, "/alpine", "", "", nil)
	k = kyvernoOf(t, d.export(t, "kyverno", d.file("library.yaml", []byte(scopes+"  docker.io/library/alpine: [vendor]\n")), "claims-if-present"))
	d.byKyverno(t, k, "docker.io/alpine", "", "", nil)
	d.byKyverno(t, k, "docker.io/library/alpine", "docker.io/library/alpine", "R A R A R", t2Columns)
	d.byKyverno(t, k, "docker.io/library/busybox", "docker.io", "R R A A R", t2Columns)
}

// Kyverno does not look at identities, so a root that is trusted for some only is not trusted there at all.
func TestExportToKyvernoLeavesOutIdentities(t *testing.T) {
	t.Parallel()
	d, dev, prod, _ := exporting(t, true)
	d.want(t, 3, "policy-loss", "policy", "export", "--to", "kyverno", "--out", filepath.Join(d.dir, "never"), "--policy", dev, "--accept-loss", "claims-if-present")
	k := kyvernoOf(t, d.export(t, "kyverno", dev, "claims-if-present,identities"))
	d.byKyverno(t, k, "ci.acme.example/team/api", "*", "R A R R A R R", t1Columns)
	d.byKyverno(t, k, "mirror.acme.example/library/alpine", "mirror.acme.example/library", "R A A R A R R", t1Columns)
	// In prod nobody is left for *: it is denied, and the longer scopes are not.
	k = kyvernoOf(t, d.export(t, "kyverno", prod, "claims-if-present,identities"))
	d.byKyverno(t, k, "ci.acme.example/team/api", "", "", nil)
	d.byKyverno(t, k, "mirror.acme.example/library/alpine", "mirror.acme.example/library", "R R A R R R R", t1Columns)
}
