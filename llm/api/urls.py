from django.urls import path

from llm.api import keys, model_views, routes, views

urlpatterns = [
    path("providers", views.ProvidersView.as_view()),
    path("providers/kinds", views.ProviderKindsView.as_view()),
    path("providers/<str:ref>", views.ProviderView.as_view()),
    path("providers/<str:ref>/test", views.ProviderTestView.as_view()),
    path("providers/<str:ref>/health", views.ProviderHealthView.as_view()),
    path("providers/<str:ref>/health/reset", views.ProviderResetView.as_view()),
    path("providers/<str:ref>/models", model_views.ProviderModelsView.as_view()),
    path("providers/<str:ref>/models/<path:name>", model_views.ProviderModelView.as_view()),
    path("providers/<str:ref>/keys", keys.ProviderKeysView.as_view()),
    path("providers/<str:ref>/keys/<str:key>", keys.ProviderKeyView.as_view()),
    path("routes", routes.RoutesView.as_view()),
    path("routes/<str:ref>", routes.RouteView.as_view()),
    path("routes/<str:ref>/preview", routes.RoutePreviewView.as_view()),
    path("routes/<str:ref>/report", routes.RouteReportView.as_view()),
]
