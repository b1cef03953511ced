from django.urls import path

from llm.api import keys, models, providers, routes

urlpatterns = [
    path("providers", providers.ProvidersView.as_view()),
    path("providers/kinds", providers.ProviderKindsView.as_view()),
    path("providers/<str:ref>", providers.ProviderView.as_view()),
    path("providers/<str:ref>/test", providers.ProviderTestView.as_view()),
    path("providers/<str:ref>/health", providers.ProviderHealthView.as_view()),
    path("providers/<str:ref>/health/reset", providers.ProviderResetView.as_view()),
    path("providers/<str:ref>/models", models.ProviderModelsView.as_view()),
    path("providers/<str:ref>/models/<path:name>", models.ProviderModelView.as_view()),
    path("providers/<str:ref>/keys", keys.ProviderKeysView.as_view()),
    path("providers/<str:ref>/keys/<str:key>", keys.ProviderKeyView.as_view()),
    path("routes", routes.RoutesView.as_view()),
    path("routes/<str:ref>", routes.RouteView.as_view()),
    path("routes/<str:ref>/preview", routes.RoutePreviewView.as_view()),
    path("routes/<str:ref>/report", routes.RouteReportView.as_view()),
]
