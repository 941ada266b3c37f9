{{/* The name of what belongs to the release. */}}
{{- define "engram-operator.name" -}}
{{- if contains "engram-operator" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-engram-operator" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "engram-operator.selector" -}}
app.kubernetes.io/name: engram-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "engram-operator.labels" -}}
{{ include "engram-operator.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: engram
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "engram-operator.account" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "engram-operator.name" .) .Values.serviceAccount.name }}
{{- else }}{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "engram-operator.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
