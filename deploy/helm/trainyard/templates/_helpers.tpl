{{/* Names, labels and the parts that several templates share. */}}

{{- define "trainyard.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "trainyard.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "trainyard.labels" -}}
{{ include "trainyard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "trainyard.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "trainyard.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* An image's full name, of a dictionary with `root` and `image`. */}}
{{- define "trainyard.image" -}}
{{- $tag := .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.image.registry }}{{ . | trimSuffix "/" }}/{{ end }}{{ .image }}:{{ $tag }}
{{- end -}}

{{- define "trainyard.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Every coordinator under its own stable name, so that clients find the one that leads. */}}
{{- define "trainyard.coordinators" -}}
{{- $service := printf "%s-coordinator" (include "trainyard.name" .) -}}
{{- $addresses := list -}}
{{- range $i := until (int (include "trainyard.replicas" .)) -}}
{{- $addresses = append $addresses (printf "http://%s-%d.%s.%s.svc:%v" $service $i $service $.Release.Namespace $.Values.coordinator.port) -}}
{{- end -}}
{{ join "," $addresses }}
{{- end -}}

{{- define "trainyard.replicas" -}}
{{- if and (not .Values.etcd.endpoints) (ne (int .Values.coordinator.replicas) 1) -}}
{{- fail (printf "coordinator.replicas: %v is not accepted without etcd.endpoints; expected 1" .Values.coordinator.replicas) -}}
{{- end -}}
{{ .Values.coordinator.replicas }}
{{- end -}}

{{/* How etcd is reached, as the coordinator's `env`. */}}
{{- define "trainyard.etcd" -}}
{{- with .Values.etcd }}
{{- if .endpoints }}
- {name: TRAINYARD_ETCD, value: {{ join "," .endpoints | quote }}}
- {name: TRAINYARD_ETCD_PREFIX, value: {{ .prefix | quote }}}
- {name: TRAINYARD_LEADER_LEASE_MS, value: {{ .leaderLeaseMs | quote }}}
- {name: TRAINYARD_ETCD_QUOTA_BYTES, value: {{ int64 .quotaBytes | quote }}}
- {name: TRAINYARD_ETCD_COMPACT, value: {{ .compact | quote }}}
- {name: TRAINYARD_SEGMENT_FLUSH_MS, value: {{ .flushMs | quote }}}
{{- with .seriesUrl }}
- {name: TRAINYARD_SEGMENT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .auth }}
{{- if .secretName }}
{{- with .user }}
- {name: TRAINYARD_ETCD_USER, value: {{ . | quote }}}
{{- end }}
{{- with .passwordKey }}
- {name: TRAINYARD_ETCD_PASSWORD_FILE, value: /etc/trainyard/etcd/{{ . }}}
{{- end }}
{{- with .caKey }}
- {name: TRAINYARD_ETCD_CA_FILE, value: /etc/trainyard/etcd/{{ . }}}
{{- end }}
{{- with .certKey }}
- {name: TRAINYARD_ETCD_CERT_FILE, value: /etc/trainyard/etcd/{{ . }}}
{{- end }}
{{- with .keyKey }}
- {name: TRAINYARD_ETCD_KEY_FILE, value: /etc/trainyard/etcd/{{ . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How the store is reached, as a container's `env`. */}}
{{- define "trainyard.storage" -}}
{{- range $name, $value := .Values.storage.environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.storage.credentials }}
{{- $secret := .secretName }}
{{- if $secret }}
{{- range $name, $key := .variables }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ $key }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The user of the images; a volume belongs to its group. */}}
{{- define "trainyard.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "trainyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "trainyard.placing" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
